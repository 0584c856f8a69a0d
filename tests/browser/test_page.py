"""Everything beside the tasks: pasting, dropping, the keyboard, the code to copy."""

import base64
import os
import shutil

import pytest
from page import PHONE
from programs import run_code, skip_without
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from server import IMAGES


def test_a_picture_is_pasted(page):
    page.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    picture = base64.b64encode((IMAGES / "red-circle.png").read_bytes()).decode()
    page.js(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
        return navigator.clipboard.write([new ClipboardItem({ 'image/png': new Blob([bytes], { type: 'image/png' }) })]);
        """,
        picture,
    )
    keys(page, Keys.CONTROL, "v")
    page.wait("the pasted picture", lambda: page.text("#file-name") == "image.png")
    page.run_to_end()
    assert page.text(".text").startswith("a red circle")


def test_a_picture_is_dropped(page):
    files = {"items": [], "files": [str(IMAGES / "tall.webp")], "dragOperationsMask": 1}
    for step in ("dragEnter", "dragOver"):
        page.cdp("Input.dispatchDragEvent", type=step, x=300, y=300, data=files)
    page.wait("the stage to be marked", lambda: "dropping" in page.find("#stage").get_attribute("class"))
    page.check_looks("dropping")
    page.cdp("Input.dispatchDragEvent", type="drop", x=300, y=300, data=files)
    page.wait("the dropped picture", lambda: page.text("#file-name") == "tall.webp")
    assert "dropping" not in page.find("#stage").get_attribute("class")
    page.run_to_end()
    assert "yellow circle" in page.text(".text")


def keys(page, *pressed):
    actions = ActionChains(page.driver)
    for key in pressed[:-1]:
        actions.key_down(key)
    actions.send_keys(pressed[-1])
    for key in pressed[:-1]:
        actions.key_up(key)
    actions.perform()


def focus(page):
    return page.js("const at = document.activeElement; return at.id || at.dataset.name || at.name || at.tagName")


def test_the_tab_key_reaches_everything_in_order(page):
    page.task("detect")
    stops = []
    for _ in range(40):
        keys(page, Keys.TAB)
        stops.append(focus(page))
        if stops[-1] == "BODY":
            break
    controls = ["file", "more", "circle-and-square.jpg", "exif-rotated.jpg", "task", "objects", "run", "tab-curl"]
    assert [stop for stop in stops if stop in controls] == controls


def test_arrow_keys_choose_the_task_and_control_enter_runs(page):
    page.js("document.querySelector('[value=caption]').focus()")
    keys(page, Keys.ARROW_RIGHT)
    assert page.find("#question").is_displayed()
    keys(page, Keys.CONTROL, Keys.ENTER)
    page.wait("the answer", lambda: page.text(".text") == "red")


def test_the_page_is_named_for_those_who_do_not_see_it(page):
    """Every control has a name, and an answer is spoken."""
    nameless = page.js(
        """
        const nodes = document.querySelectorAll('button, input, textarea, select, summary, a');
        return [...nodes].filter((node) => !node.labels?.length && !node.getAttribute('aria-label')
          && !node.textContent.trim()).map((node) => node.outerHTML);
        """
    )
    assert nameless == []
    page.run_to_end()
    assert page.find("#spoken").get_property("textContent") == page.text(".text")


def test_the_prompts_notation_of_places_is_explained(page):
    page.task("generate")
    page.fill("prompt", "detect red circle")
    page.run_to_end()
    assert "<loc" in page.text(".text")
    assert "Detect and Segment draw them" in page.text(".hint")
    page.check_looks("prompt-with-places")


def test_a_phone_keeps_run_and_the_answer_in_view(page):
    page.look(PHONE, "light")
    page.example("red-circle.png")
    page.task("detect")
    for place in ("0", "document.querySelector('#history').offsetTop - innerHeight"):
        page.run_to_end()
        page.js(f"scrollTo(0, {place})")
        for selector in ("#run", ".found"):
            top, bottom = page.js(
                "const { top, bottom } = document.querySelector(arguments[0]).getBoundingClientRect(); return [top, bottom]",
                selector,
            )
            assert 0 <= top < bottom <= PHONE[1], f"{selector} from {top} to {bottom}, scrolled to {place}"
    hints = [each for each in page.all(".desktop") if each.is_displayed()]
    assert hints == []
    page.js("scrollTo(0, 0)")
    bottom = page.js("return document.querySelector('#image').getBoundingClientRect().bottom")
    dock = page.js("return document.querySelector('#dock').getBoundingClientRect().top")
    assert bottom <= dock, "the answer covers the picture"


# --- The code to copy

QUESTION = "what colour is the “circle”; isn't it $RED, \\ or `so`?"


def slide(page, name, value):
    script = "const it = document.getElementById(arguments[0]); it.value = arguments[1];"
    page.js(f"{script} it.dispatchEvent(new Event('input', {{ bubbles: true }}))", name, value)


def shown_code(page, language):
    tab = "curl" if language == "sh" else language
    page.find(f"#tab-{tab}").click()
    return page.text(f"#code-{tab}")


@pytest.mark.parametrize("language", ["sh", "python", "javascript"])
@pytest.mark.parametrize("task", ["vqa", "segment"])
def test_the_code_shown_runs_and_answers_the_same(page, tmp_path, language, task):
    skip_without(language)
    picture = tmp_path / "a circle, and a square; it's.jpg"
    shutil.copy(IMAGES / "circle-and-square.jpg", picture)
    page.choose(picture)
    page.task(task)
    if task == "vqa":
        page.fill("question", QUESTION)
    page.run_to_end()
    expected = [page.text(".text")] if task == "vqa" else [row.text for row in page.all(".found .name")]
    assert expected and expected[0]
    output = run_code(language, shown_code(page, language), tmp_path)
    for words in expected:
        assert words in output


def test_the_code_hides_what_the_page_hides(page, tmp_path):
    page.task("detect")
    page.run_to_end()
    scores = [float(each.text.split(" ")[0]) for each in page.all(".found .sure")]
    assert len(scores) == 2
    between = (sum(scores) / 2 + 0.5) / 100 if scores[0] != scores[1] else max(scores) / 100 + 0.02
    slide(page, "least", round(between, 2))
    left = [row.text for row in page.all(".found .name")]
    output = run_code("sh", shown_code(page, "sh"), IMAGES)
    assert [name for name in ("red circle", "blue square") if name in output] == left


def test_the_code_bears_the_key_by_name(other_page, tmp_path):
    server, page = other_page("--api-keys", "the-key")
    page.expect_in_console("status of 401")
    page.wait("the question", lambda: page.find("#key-form").is_displayed())
    page.fill("key", "the-key\n")
    page.wait("the model", lambda: "demo" in page.text("#model-name"))
    environment = {**os.environ, "API_KEY": "the-key"}
    for language in ("sh", "python"):
        output = run_code(language, shown_code(page, language), IMAGES, env=environment)
        assert "a red circle and a blue square" in output


def test_the_code_is_copied(page):
    page.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.find("[data-copy=curl]").click()
    page.wait("what was done", lambda: "Copied" in page.text("[data-copy=curl]"))
    assert page.js("return navigator.clipboard.readText()") == page.text("#code-curl")
