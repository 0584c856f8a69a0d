"""While there is no answer yet: the model is loading, or others are first."""

import pytest
import stub
from page import Page
from test_trouble import Stream, wait_for_metric


@pytest.fixture
def loading_page(chromium, server):
    """The playground of a server whose model is loaded to two fifths."""
    page = Page(chromium)
    page.expect_in_console("status of 503")
    with stub.answers(page, {"/health/ready": stub.loading(0.4)}):
        page.open(server.address)
        yield page
    page.assert_no_console_errors()


def test_the_page_waits_for_the_model_and_then_asks(loading_page):
    page = loading_page
    page.wait("the share", lambda: "40 %" in page.text("#loading"))
    assert page.js("return document.querySelector('#loaded').value") == pytest.approx(0.4)
    page.run()
    page.wait("the hint", lambda: page.text(".hint") == "Waiting for the model: 40 % loaded…")
    page.check_looks("loading")
    page.js("answers['/health/ready'] = arguments[0]", stub.loading(0.9))
    page.wait("the next share", lambda: "90 %" in page.text(".hint") and "90 %" in page.text("#loading"))
    assert not [each for each in page.js("return asked") if each["path"] == "/v1/caption"], "asked too early"
    page.js("delete answers['/health/ready']")
    page.wait("the answer", lambda: page.text(".text").startswith("a red circle"))
    assert not page.find("#loading").is_displayed()


def test_waiting_for_the_model_is_stopped(loading_page):
    page = loading_page
    page.run()
    page.wait("the hint", lambda: "Waiting" in page.text(".hint"))
    page.find("#stop").click()
    assert page.text(".hint") == "Stopped."
    page.js("delete answers['/health/ready']")
    page.wait("the model", lambda: not page.find("#loading").is_displayed())
    assert not [each for each in page.js("return asked") if each["path"] == "/v1/caption"]


def test_a_model_that_is_loaded_again_is_waited_for(chromium, server):
    page = Page(chromium)
    with stub.answers(page, {}):
        page.open(server.address)
        page.wait("the model", lambda: "demo" in page.text("#model-name"))
        for path in ("/health/ready", "/v1/caption"):
            page.js("answers[arguments[0]] = arguments[1]", path, stub.loading(0.2))
        page.run()
        page.wait("the hint", lambda: "20 % loaded" in page.text(".hint"))
        page.js("answers = {}")
        page.wait("the answer", lambda: page.text(".text").startswith("a red circle"))
        assert page.problem() == ""


def test_the_place_in_the_queue_is_shown(other_page, endless):
    server, page = other_page(*endless)
    streams = []
    for waiting in (0, 1):
        streams.append(Stream(server))
        wait_for_metric(page, server, "paligemma_queue_length", lambda value: value == waiting)
        wait_for_metric(page, server, "paligemma_slots_used", lambda value: value == 1)
    page.run()
    page.wait("the place", lambda: page.text(".hint") == "In the queue: 1 request ahead of this one…")
    assert page.find("#spoken").get_property("textContent") == page.text(".hint")
    page.check_looks("queued")
    streams[1].stop()
    page.wait("the next place", lambda: page.text(".hint") == "Next in the queue…")
    streams[0].stop()
    page.wait("the answer", lambda: page.text(".text") != "")
    page.find("#stop").click()
    wait_for_metric(page, server, "paligemma_slots_used", lambda value: value == 0)


def test_stop_leaves_the_queue(other_page, endless):
    server, page = other_page(*endless)
    stream = Stream(server)
    wait_for_metric(page, server, "paligemma_slots_used", lambda value: value == 1)
    page.run()
    page.wait("the place", lambda: page.text(".hint") == "Next in the queue…")
    page.find("#stop").click()
    wait_for_metric(page, server, "paligemma_queue_length", lambda value: value == 0)
    assert page.text(".hint") == "Stopped."
    stream.stop()
    wait_for_metric(page, server, "paligemma_slots_used", lambda value: value == 0)
