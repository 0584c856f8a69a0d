"""What is kept of an answer: earlier ones on the page, and files."""

import json

import pytest
import stub
from PIL import Image
from server import IMAGES
from test_tasks import answer, overlap, shape_in


def entries(page):
    return [each.text.split("\n") for each in page.all(".entry")]


def test_earlier_answers_come_back_with_their_picture_and_what_was_asked(page):
    assert not page.find("#history").is_displayed()
    page.task("detect")
    page.fill("objects", "red circle")
    page.run_to_end()
    page.example("three-hearts.png")
    page.task("vqa")
    page.fill("question", "how many pink shapes are there?")
    page.run_to_end()
    assert entries(page) == [["how many pink shapes are there?", "2"], ["Detect red circle", "1 object"]]
    page.check_looks("history")
    page.all(".entry")[1].click()
    page.wait("the earlier picture", lambda: page.text("#file-name") == "circle-and-square.jpg")
    assert page.find("#objects").get_property("value") == "red circle"
    assert page.text(".found .name") == "red circle"
    page.wait("its box", lambda: len(page.all("#overlay .box")) == 1)
    page.all(".entry")[0].click()
    assert page.text(".text") == "2" and page.find("#question").is_displayed()
    assert len(entries(page)) == 2, "to look at an answer is not to ask again"
    page.find("#forget").click()
    assert not page.find("#history").is_displayed()


def test_a_marked_part_comes_back(page):
    from test_form import corners, drag

    drag(page, 0.2, 0.2, 0.6, 0.6)
    before = corners(page)
    page.run_to_end()
    page.find("#whole").click()
    page.find(".entry").click()
    assert corners(page) == before


def test_an_answer_that_failed_is_not_kept(page):
    page.expect_in_console("status of 422")
    page.task("detect")
    page.fill("objects", ";")
    page.run()
    page.wait_for_problem()
    assert entries(page) == []


# --- Files

@pytest.fixture
def saved(page, tmp_path):
    """Clicks a button that saves, and waits for the file."""
    page.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))

    def save(what):
        before = set(tmp_path.iterdir())
        page.find(f"[data-keep={what}]").click()
        new = lambda: [each for each in set(tmp_path.iterdir()) - before if each.suffix in (".png", ".json")]
        page.wait(f"the {what}", new)
        return new()[0]

    return save


def test_the_mask_is_saved_as_large_as_the_picture(page, saved):
    page.task("segment")
    page.fill("objects", "red circle, blue square")
    page.run_to_end()
    file = saved("mask")
    assert file.name == "circle-and-square-mask.png"
    mask = Image.open(file).convert("L")
    assert mask.size == (480, 360)
    for name in ("red circle", "blue square"):
        box = shape_in("circle-and-square.jpg", name)
        margin = [box[0] - 8, box[1] - 8, box[2] + 8, box[3] + 8]
        x0, y0, x1, y1 = mask.crop(margin).point(lambda value: 255 * (value > 127)).getbbox()
        assert overlap([x0, y0, x1, y1], [8, 8, box[2] - box[0] + 8, box[3] - box[1] + 8]) > 0.9, name
    assert mask.getpixel((240, 20)) == 0


def test_the_picture_is_saved_with_what_was_found_drawn_in(page, saved):
    page.task("segment")
    page.fill("objects", "red circle")
    page.run_to_end()
    file = saved("picture")
    assert file.name == "circle-and-square-annotated.png"
    annotated = Image.open(file).convert("RGB")
    original = Image.open(IMAGES / "circle-and-square.jpg").convert("RGB")
    assert annotated.size == original.size
    x0, y0, x1, y1 = shape_in("circle-and-square.jpg", "red circle")
    change = lambda at: max(abs(a - b) for a, b in zip(annotated.getpixel(at), original.getpixel(at)))
    assert change(((x0 + x1) // 2, (y0 + y1) // 2)) > 15, "no mask"
    assert change((400, 150)) < 8, "the other shape is as it was"
    label = [annotated.getpixel((x, y)) for x in range(x0, x0 + 60) for y in range(y0 - 30, y0 - 6)]
    assert label.count((0xC2, 0x18, 0x5B)) > 300, "no label"


def test_a_label_without_room_in_the_saved_picture_gets_a_margin(page, saved, server):
    with stub.answers(page, {"/v1/detect": stub.detection(("all of it", 0, 0, 480, 360, 0.9))}):
        page.open(server.address)
    page.task("detect")
    page.run_to_end()
    annotated = Image.open(saved("picture")).convert("RGB")
    margin = annotated.height - 360
    assert annotated.width == 480 and 24 < margin < 50
    assert annotated.getpixel((400, 5)) == (255, 255, 255), "beside the label"
    assert annotated.getpixel((3, 12)) == (0xC2, 0x18, 0x5B), "the label"


def test_the_json_is_what_the_api_answers(page, saved, server):
    page.task("detect")
    page.fill("objects", "red circle")
    page.run_to_end()
    document = json.loads(saved("json").read_text())
    assert document["results"][0] == answer(server, "detect", "circle-and-square.jpg", objects="red circle")
    assert document["object"] == "detect" and document["timings"]["total_ms"] > 0


def test_a_text_is_copied(page):
    page.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.run_to_end()
    offered = [each.text for each in page.all(".keep button") if each.is_displayed()]
    assert offered == ["Copy", "Save JSON"]
    page.find("[data-keep=text]").click()
    page.wait("what was done", lambda: "Copied" in page.text("[data-keep=text]"))
    assert page.js("return navigator.clipboard.readText()") == page.text(".text")
