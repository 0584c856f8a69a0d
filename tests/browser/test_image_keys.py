"""A picture is sent once; later questions name it."""

import hashlib

from server import IMAGES
from stub import answers

PICTURE = "red-circle.png"
KEY = hashlib.sha256((IMAGES / PICTURE).read_bytes()).hexdigest()


def ask_twice(page, server):
    """The bodies of the page's requests for two captions of one picture."""
    with answers(page, {}):
        page.open(server.address)
        page.example(PICTURE)
        page.task("caption")
        page.run_to_end()
        first = page.text("#answers .text")
        page.run_to_end()
        assert page.text("#answers .text") == first == "a red circle on a white background"
        return page.js("return asked.filter(({ path }) => path === '/v1/caption').map(({ body }) => body)")


def test_the_second_question_names_the_picture(page, server):
    first, second = ask_twice(page, server)
    assert "image" in first and "image_key" not in first
    assert "image" not in second and second["image_key"] == KEY


def test_a_picture_that_the_server_has_forgotten_is_sent_again(other_page):
    server, page = other_page("--kept-images", "0")
    page.expect_in_console("404")
    first, named, again = ask_twice(page, server)
    assert named["image_key"] == KEY
    assert again["image"] == first["image"]
