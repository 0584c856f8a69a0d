"""What may go wrong, and what stops a request."""

import threading

import requests
from PIL import Image
from server import IMAGES

KEY = "correct-horse"


def refused(status):
    return f"server responded with a status of {status}"


def wait_for_metric(page, server, name, reached):
    page.wait(f"{name} to change", lambda: reached(server.metric(name)))


def test_stop_frees_the_slot(other_page, endless):
    server, page = other_page(*endless)
    page.run()
    page.wait("the answer to begin", lambda: page.text(".text") != "")
    assert server.metric("paligemma_slots_used") == 1
    page.check_looks("running")
    page.find("#stop").click()
    page.wait("the end", lambda: page.text(".hint") == "Stopped.")
    wait_for_metric(page, server, "paligemma_slots_used", lambda value: value == 0)
    assert server.metric("paligemma_generations_cancelled_total") == 1
    assert page.text(".text").startswith("a red circle"), "what was written is still there"
    assert not page.find("#stop").is_displayed()
    page.check_looks("stopped")
    with open(IMAGES / "red-circle.png", "rb") as image:
        answer = requests.post(f"{server.url}/caption", files={"image": image}, data={"max_tokens": 3}, timeout=20)
    assert answer.json()["results"][0]["caption"] == "a red circle"


def test_another_run_replaces_the_first_one(other_page, endless):
    server, page = other_page(*endless)
    page.run()
    page.wait("the answer to begin", lambda: page.text(".text") != "")
    page.task("vqa")
    page.fill("question", "what colour is the circle?\n")
    wait_for_metric(page, server, "paligemma_generations_cancelled_total", lambda value: value == 1)
    page.wait("the other answer", lambda: page.text(".text").startswith("red"))
    page.find("#stop").click()
    wait_for_metric(page, server, "paligemma_slots_used", lambda value: value == 0)


def test_leaving_the_page_frees_the_slot(other_page, endless):
    server, page = other_page(*endless)
    page.run()
    page.wait("the answer to begin", lambda: page.text(".text") != "")
    page.driver.get("about:blank")
    wait_for_metric(page, server, "paligemma_slots_used", lambda value: value == 0)


def test_a_full_queue_is_explained(other_page, endless):
    server, page = other_page(*endless, "--queue", "1")
    page.expect_in_console(refused(429))
    streams = [Stream(server), Stream(server)]
    wait_for_metric(page, server, "paligemma_queue_length", lambda value: value == 1)
    page.run()
    problem = page.wait_for_problem()
    assert "The queue is full" in problem
    assert "Try again in" in problem
    page.check_looks("queue-full")
    for stream in streams:
        stream.stop()
    wait_for_metric(page, server, "paligemma_slots_used", lambda value: value == 0)
    page.run()
    page.wait("an answer", lambda: page.text(".text") != "")
    assert page.problem() == ""
    page.find("#stop").click()


class Stream:
    """A request that takes a slot, or a place in the queue, until it is stopped."""

    def __init__(self, server):
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._read, args=[server.url], daemon=True)
        self.thread.start()

    def _read(self, url):
        with open(IMAGES / "red-circle.png", "rb") as image:
            form = {"files": {"image": image}, "data": {"stream": "true"}}
            try:
                with requests.post(f"{url}/caption", stream=True, timeout=(5, 2), **form):
                    self.stopped.wait()
            except requests.ReadTimeout:
                self.stopped.wait()

    def stop(self):
        self.stopped.set()


def test_a_picture_that_is_damaged(page, tmp_path):
    page.expect_in_console(refused(422))
    file = tmp_path / "damaged.png"
    file.write_bytes((IMAGES / "red-circle.png").read_bytes()[:200])
    page.choose(file)
    page.run()
    problem = page.wait_for_problem()
    assert "Request " in problem and "status" not in problem
    page.check_looks("damaged")


def test_a_body_that_is_too_large(other_page):
    server, page = other_page("--max-body", "8KB")
    page.expect_in_console(refused(413))
    page.choose(IMAGES / "noisy.png")
    page.run()
    problem = page.wait_for_problem()
    assert "The body is too large" in problem
    page.check_looks("too-large")


def test_a_picture_with_too_many_pixels(other_page, tmp_path):
    server, page = other_page("--max-image-side", "400")
    page.expect_in_console(refused(413))
    page.run()
    assert "An image is too large" in page.wait_for_problem()


def test_a_tiff_is_read_although_the_browser_cannot_show_it(page, tmp_path):
    file = tmp_path / "circle.tiff"
    Image.open(IMAGES / "red-circle.png").save(file)
    page.choose(file)
    page.wait("what is missing", lambda: "the server may read it" in page.text("#no-image"))
    page.task("detect")
    page.fill("objects", "red circle")
    page.run_to_end()
    assert page.text(".found .name") == "red circle"
    assert "nothing is drawn" in page.text(".hint")
    page.check_looks("tiff")


def test_the_api_key_is_asked_for(other_page):
    server, page = other_page("--api-keys", KEY)
    page.expect_in_console(refused(401))
    page.wait("the question", lambda: page.find("#key-form").is_displayed())
    page.check_looks("key")
    page.fill("key", "wrong\n")
    page.wait("the refusal", lambda: "refused" in page.text("#key-title"))
    page.fill("key", f"{KEY}\n")
    page.wait("the model", lambda: "demo" in page.text("#model-name"))
    assert not page.find("#key-form").is_displayed()
    page.run_to_end()
    assert page.text(".text").startswith("a red circle and a blue square")
    assert KEY not in page.text("#code-curl")
    assert "$API_KEY" in page.text("#code-curl")
    page.driver.refresh()
    page.wait("the model again", lambda: "demo" in page.text("#model-name"))


def test_a_server_that_is_gone(other_page, endless):
    server, page = other_page()
    page.expect_in_console("ERR_CONNECTION_REFUSED")
    server.process.terminate()
    server.process.wait()
    page.run()
    assert "The server can’t be reached" in page.wait_for_problem()
    page.check_looks("gone")


def test_a_server_that_dies_in_the_middle_of_an_answer(other_page, endless):
    server, page = other_page(*endless)
    page.expect_in_console("ERR_")
    page.run()
    page.wait("the answer to begin", lambda: page.text(".text") != "")
    server.process.terminate()
    assert "shutting down" in page.wait_for_problem()
    assert page.text(".hint") == "Not complete:"
    page.check_looks("cut-off")
