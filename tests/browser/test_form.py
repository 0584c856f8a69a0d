"""What can be asked, and how it is said."""

import pytest
import stub
from page import PHONE, Page
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from test_page import shown_code, slide
from test_tasks import SCENES


def drag(page, x0, y0, x1, y1):
    """Over the picture, from one point to another, in shares of it."""
    frame = page.find("#image")
    width, height = frame.size["width"], frame.size["height"]
    offset = lambda share, length: round((share - 0.5) * length)
    actions = ActionChains(page.driver)
    actions.move_to_element_with_offset(frame, offset(x0, width), offset(y0, height)).click_and_hold()
    actions.move_to_element_with_offset(frame, offset(x1, width), offset(y1, height)).release().perform()


def corners(page):
    return [float(page.find(f"[data-corner={name}]").get_property("value")) for name in ("x0", "y0", "x1", "y1")]


def test_a_part_of_the_picture_is_marked_by_dragging(page, server):
    drag(page, 0.9, 0.8, 0.5, 0.2)  # from any corner
    assert corners(page) == pytest.approx([240, 72, 432, 288], abs=2)
    assert not page.find("#language").is_displayed(), "a part is described in English only"
    drawn = page.rectangle("#region")
    assert drawn == pytest.approx([240, 72, 432, 288], abs=3)
    page.run_to_end()
    assert page.text(".text") == "a blue square"
    code = shown_code(page, "sh")
    assert "box=" in code and "length=" not in code
    page.check_looks("region")
    page.find("#whole").click()
    assert not page.find("#region").is_displayed()
    assert page.find("#language").is_displayed()
    assert "box=" not in shown_code(page, "sh")


def test_a_part_is_marked_without_a_mouse(page):
    page.find("#mark").send_keys(Keys.ENTER)
    assert corners(page) == pytest.approx([120, 90, 360, 270])
    type_corner(page, "x1", 400)
    assert corners(page)[2] == 400
    assert page.rectangle("#region")[2] == pytest.approx(400, abs=3)
    type_corner(page, "x0", 450)
    assert corners(page)[0] < 400, "the left edge can't be right of the right one"


def type_corner(page, name, value):
    page.find(f"[data-corner={name}]").send_keys(Keys.CONTROL, "a", Keys.NULL, f"{value}\t")


def test_a_click_marks_nothing(page):
    page.find("#image").click()
    assert not page.find("#region").is_displayed()


def touch(page, *points):
    for step, (x, y) in zip(["touchStart", *["touchMove"] * (len(points) - 1)], points):
        page.cdp("Input.dispatchTouchEvent", type=step, touchPoints=[{"x": x, "y": y}])
    page.cdp("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def test_a_finger_scrolls_unless_it_is_told_to_mark(page):
    page.look(PHONE, "light")
    at = page.js("const { x, y } = document.querySelector('#image').getBoundingClientRect(); return [x + 60, y + 150]")
    path = [(at[0] + step * 15, at[1] - step * 12) for step in range(8)]
    touch(page, *path)
    assert not page.find("#region").is_displayed()
    page.js("document.querySelector('#mark').scrollIntoView({ block: 'center' })")
    page.find("#mark").click()
    page.js("scrollTo(0, 0)")
    touch(page, *path)
    page.wait("the part", lambda: page.find("#region").is_displayed())
    assert page.find("#mark").get_attribute("aria-pressed") == "false"
    page.js("document.querySelector('#whole').click()")


def test_other_tasks_have_no_parts(page):
    drag(page, 0.2, 0.2, 0.6, 0.6)
    page.task("detect")
    assert not page.find("#region").is_displayed()
    drag(page, 0.2, 0.2, 0.6, 0.6)
    assert not page.find("#region").is_displayed()
    page.task("caption")
    assert page.find("#region").is_displayed(), "it is still marked for captions"


def test_a_language_is_part_of_the_request(page):
    page.js("const it = document.querySelector('#language'); it.value = 'de'; it.form.dispatchEvent(new Event('input'))")
    assert "language=de" in shown_code(page, "sh")
    assert page.find("#language-note").is_displayed()
    page.task("vqa")
    assert "language=de" in shown_code(page, "sh")
    page.task("ocr")
    assert "language" not in shown_code(page, "sh")


def test_suggestions_fill_the_field(page):
    page.task("vqa")
    chips = page.all("[data-presets=question] button")
    assert len(chips) >= 2
    chips[1].click()
    assert page.find("#question").get_property("value") == chips[1].text
    assert "blue square" in shown_code(page, "sh")
    page.run_to_end()
    assert page.text(".text") == "right"


@pytest.mark.parametrize("task", ["detect", "segment"])
@pytest.mark.parametrize(
    "file",
    ["circle-and-square.jpg", "four-shapes.png", "three-hearts.png", "red-circle.png", "tall.webp", "exif-rotated.jpg"],
)
def test_the_suggested_objects_are_found_if_they_are_there(page, task, file):
    shapes = [shape["name"] for shape in SCENES[file]["shapes"]]
    page.example(file)
    page.task(task)
    for chip in page.all("[data-presets=objects] button"):
        words = chip.text.split(", ")
        chip.click()
        page.run_to_end()
        expected = [word for word in words for shape in shapes if word == "shape" or word in (shape, shape.split()[1])]
        found = [row.text for row in page.all(".found .name")]
        assert found == expected, f"asked for {words}"


def test_sampling_is_folded_away_and_part_of_the_request(page):
    assert not page.find("#temperature").is_displayed()
    page.find("#sampling summary").click()
    assert not page.find("#seed").is_enabled(), "without variety a seed means nothing"
    slide(page, "temperature", 1.2)
    slide(page, "top_p", 0.9)
    page.fill("seed", "7")
    page.fill("max_tokens", "4")
    page.fill("stop-text", "blue")
    code = shown_code(page, "sh")
    for field in ("temperature=1.2", "top_p=0.9", "seed=7", "max_tokens=4", "stop=blue"):
        assert field in code, field
    assert page.find("#sampling-changed").is_displayed()
    page.run_to_end()
    assert int(page.text(".tokens")) <= 4
    page.check_looks("sampling")
    page.find("#sampling-reset").click()
    assert "temperature" not in shown_code(page, "sh")
    assert not page.find("#sampling-changed").is_displayed()


def test_a_number_out_of_range_is_explained_before_anything_is_sent(page):
    page.find("#sampling summary").click()
    page.fill("max_tokens", "0")
    page.run()
    assert "“Longest answer, in tokens” can’t be used" in page.wait_for_problem()
    page.find("#sampling-reset").click()


@pytest.mark.parametrize(("task", "field", "words"), [("vqa", "question", "No question yet"), ("detect", "objects", "Nothing to find yet")])
def test_a_field_that_is_empty(page, task, field, words):
    page.task(task)
    page.fill(field, " ")
    page.run()
    assert words in page.wait_for_problem()
    page.check_looks(f"empty-{field}")


def test_the_servers_words_become_those_of_the_form(page):
    page.expect_in_console("status of 422")
    page.task("detect")
    page.fill("objects", "red circle; blue square")
    page.run()
    problem = page.wait_for_problem()
    assert "“Objects to find”" in problem and "objects[0]" not in problem


def test_only_what_the_model_can_do_is_offered(chromium, server):
    page = Page(chromium)
    model = {"id": "mine", "device": "cuda:0", "dtype": "bf16", "tasks": ["vqa", "detect"]}
    with stub.answers(page, {"/v1/models": stub.document({"data": [model]})}):
        page.open(server.address)
        page.wait("the model", lambda: "mine" in page.text("#model-name"))
    assert page.text("#model-name") == "mine · GPU · 16-bit weights"
    offered = [each.text for each in page.all("#tasks label") if each.is_displayed()]
    assert offered == ["Question", "Detect", "Prompt"]
    assert page.find("#question").is_displayed(), "the first that it can do is chosen"
    page.check_looks("two-tasks")
