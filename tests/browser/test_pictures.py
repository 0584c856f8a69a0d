"""Where pictures come from: files of all kinds, several at once, and the camera."""

import pytest
from conftest import start_chromium
from page import Page
from server import IMAGES

NAMES = ["wide.png", "tall.webp", "noisy.png"]


def names_on_view(page):
    return [each.text for each in page.all("#answers .which span")]


def test_several_pictures_are_asked_about_together(page):
    page.choose_several(*[IMAGES / name for name in NAMES])
    assert page.text("#file-name") == NAMES[0]
    page.run_to_end()
    assert names_on_view(page) == NAMES
    captions = [each.text for each in page.all("#answers .text")]
    assert "star" in captions[0] and "heart" in captions[1] and "triangle" in captions[2]
    page.check_looks("several")


def test_boxes_follow_the_picture_on_view(page):
    page.choose_several(IMAGES / "red-circle.png", IMAGES / "tall.webp")
    page.task("detect")
    page.fill("objects", "blue heart")
    page.run_to_end()
    labels = lambda: [each.text for each in page.all("#overlay .label text")]
    assert labels() == []
    page.all("#answers .which")[1].click()
    page.wait("the other picture", lambda: page.text("#file-name") == "tall.webp")
    page.wait("its box", lambda: len(labels()) == 1 and "blue heart" in labels()[0])


def test_pictures_are_added_and_removed(page):
    page.choose(IMAGES / "wide.png")
    page.find("#more").send_keys(str(IMAGES / "tall.webp"))
    page.wait("both", lambda: len(page.all("#tray li")) == 2)
    assert page.text("#file-name") == "tall.webp", "what was added is on view"
    page.run_to_end()
    page.find("#tray li:last-child .remove").click()
    assert page.text("#file-name") == "wide.png"
    [left] = page.all("#answers .text")
    assert "star" in left.text, "the answer about a picture goes with it"
    assert not page.find("#tray").is_displayed(), "one picture needs no list"
    page.run_to_end()
    assert "star" in page.text(".text")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("notes.png", b"nothing to see here", "It is a text file."),
        ("photo.jpg", b"\0\0\0\x18ftypheic\0\0\0\0", "It is a HEIC photo."),
        ("scan.pdf", b"%PDF-1.7\n", "It is a PDF document."),
        ("logo.svg", b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "It is an SVG drawing."),
        ("clip.mp4", b"\0\0\0\x18ftypisom\0\0\0\0", "It is a video."),
        ("nothing.png", b"", "It is empty."),
        ("noise.png", bytes(range(250)), "It is not a picture that is known here."),
    ],
)
def test_a_file_that_is_no_picture_is_refused_in_plain_words(page, tmp_path, name, content, kind):
    file = tmp_path / name
    file.write_bytes(content)
    page.find("#file").send_keys(str(file))
    problem = page.wait_for_problem()
    assert f"{name} can’t be used" in problem
    assert kind in problem and "Choose a JPEG, PNG, WebP, GIF, BMP or TIFF file." in problem
    assert page.text("#file-name") == "circle-and-square.jpg", "the picture before is still there"
    if name == "notes.png":
        page.check_looks("no-picture")
    page.example("red-circle.png")
    assert page.problem() == ""


def test_of_several_files_the_pictures_are_used(page, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("nothing to see here")
    page.find("#file").send_keys(f"{notes}\n{IMAGES / 'tall.webp'}")
    page.wait("the picture", lambda: page.text("#file-name") == "tall.webp")
    assert "notes.txt can’t be used" in page.problem()


# --- The camera

@pytest.fixture(scope="module")
def chromium_with_camera():
    driver = start_chromium("--use-fake-device-for-media-stream")
    yield driver
    driver.quit()


def camera_page(driver, server, setting):
    page = Page(driver)
    permission = {"permission": {"name": "camera"}, "setting": setting, "origin": server.address}
    page.cdp("Browser.setPermission", **permission)
    page.open(server.address)
    page.wait("the camera's button", lambda: page.find("#camera").is_displayed())
    page.find("#camera").click()
    return page


def test_a_picture_is_taken_with_the_camera(chromium_with_camera, server):
    page = camera_page(chromium_with_camera, server, "granted")
    page.wait("the camera's view", lambda: page.js("return document.querySelector('#video').videoWidth") > 0)
    page.check_looks("camera")
    page.find("#shoot").click()
    page.wait("the picture", lambda: page.text("#file-name") == "camera.jpg")
    page.wait("its pixels", lambda: page.js("return document.querySelector('#image').naturalWidth") == 640)
    assert not page.find("#video").is_displayed()
    assert page.js("return document.querySelector('#video').srcObject.active") is False, "the camera is still on"
    page.run_to_end()
    assert page.text(".text") or page.text(".hint")
    page.assert_no_console_errors()


def test_another_picture_turns_the_camera_off(chromium_with_camera, server):
    page = camera_page(chromium_with_camera, server, "granted")
    page.wait("the camera's view", lambda: page.js("return document.querySelector('#video').videoWidth") > 0)
    page.example("red-circle.png")
    assert page.find("#image").is_displayed() and not page.find("#video").is_displayed()
    assert page.js("return document.querySelector('#video').srcObject.active") is False


def test_a_camera_that_is_not_allowed_is_explained(chromium_with_camera, server):
    page = camera_page(chromium_with_camera, server, "denied")
    problem = page.wait_for_problem()
    assert "The camera can’t be used" in problem and "not allowed" in problem
    page.check_looks("camera-denied")
    page.assert_no_console_errors()


def test_without_a_camera_none_is_offered(page):
    assert not page.find("#camera").is_displayed()
