"""The pages of docs/front-end.md, served from another origin than the API."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import code_blocks
import pytest
from page import Page
from server import IMAGES, Server


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def origin(tmp_path):
    """A folder, and the address at which a web server of its own has it."""
    (tmp_path / "favicon.ico").touch()  # browsers ask for it
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield tmp_path, f"http://localhost:{web.server_port}"
    web.shutdown()
    web.server_close()


@pytest.fixture
def open_page(chromium, origin):
    folder, address = origin
    page, servers = Page(chromium), []

    def open_page(name, *flags, allowed=address):
        server = Server("--cors-origins", allowed, *flags)
        servers.append(server)
        html = code_blocks.page("docs/front-end.md", name).replace("http://localhost:8080", server.address)
        (folder / name).write_text(html)
        chromium.get("about:blank")
        chromium.get_log("browser")
        chromium.get(f"{address}/{name}")
        return server, page

    yield open_page
    page.assert_no_console_errors()
    for server in servers:
        server.stop()


def upload(page, file):
    page.find("#file").send_keys(str(file))


def test_the_caption_is_streamed_to_another_origin(open_page):
    server, page = open_page("page.html")
    page.js(
        """
        const seen = window.seen = [], answer = document.getElementById('answer');
        new MutationObserver(() => seen.push(answer.textContent)).observe(answer, { childList: true });
        """
    )
    upload(page, IMAGES / "red-circle.png")
    page.wait("the caption", lambda: page.text("#answer") == "a red circle on a white background")
    assert len(set(page.js("return seen"))) > 2, "it was not shown while it was written"


def test_the_stop_button_frees_the_slot(open_page, endless):
    server, page = open_page("page.html", *endless)
    upload(page, IMAGES / "red-circle.png")
    page.wait("the answer to begin", lambda: page.text("#answer") != "")
    page.find("#stop").click()
    page.wait("the slot", lambda: server.metric("paligemma_slots_used") == 0)
    assert server.metric("paligemma_generations_cancelled_total") == 1


def test_an_error_is_shown(open_page, tmp_path):
    server, page = open_page("page.html")
    page.expect_in_console("status of 422")
    file = tmp_path / "text.png"
    file.write_text("no picture")
    upload(page, file)
    page.wait("the error", lambda: "this is not an image" in page.text("#answer"))


def test_an_origin_that_is_not_listed_is_refused(open_page):
    server, page = open_page("page.html", allowed="http://localhost:1")
    page.expect_in_console("blocked by CORS policy|ERR_FAILED")
    upload(page, IMAGES / "red-circle.png")
    page.wait("the failure", lambda: "Failed to fetch" in page.text("#answer"))


def test_boxes_are_drawn_on_the_canvas(open_page):
    server, page = open_page("boxes.html")
    upload(page, IMAGES / "red-circle.png")
    page.wait("the picture", lambda: page.js("return document.getElementById('canvas').width") == 320)
    pink = """
        const { data } = document.getElementById('canvas').getContext('2d').getImageData(0, 0, 320, 320), at = [];
        data.forEach((red, index) => {
          if (index % 4 === 0 && red === 0xe0 && data[index + 1] === 0x21 && data[index + 2] === 0x8a) at.push(index / 4);
        });
        return [Math.max(...at.map((place) => place % 320)), Math.max(...at.map((place) => Math.floor(place / 320)))];
        """
    page.wait("the box", lambda: None not in page.js(pink))
    right, bottom = page.js(pink)
    assert abs(right - 224) < 5 and abs(bottom - 214) < 5
    assert page.text("#problem") == ""
