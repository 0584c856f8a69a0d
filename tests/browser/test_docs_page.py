"""The page at `/docs`, where the contract can be read and tried out."""

import pytest
from page import Page


@pytest.fixture
def page(chromium, server):
    page = Page(chromium)
    page.open(server.address)
    page.find("footer a[href='/docs']").click()
    page.wait("the operations", lambda: page.all(".opblock"))
    yield page
    page.assert_no_console_errors()


def test_every_task_is_there(page):
    for task in ("caption", "vqa", "ocr", "detect", "segment", "generate"):
        assert page.all(f"#operations-tasks-{task}"), task


def test_a_request_is_tried_out(page):
    page.find("[id$=-ready] .opblock-summary-control").click()
    page.wait("the button", lambda: page.all(".execute"))
    page.find(".execute").click()
    page.wait("the answer", lambda: "Server response" in page.text("[id$=-ready]"))
    answer = page.text("[id$=-ready]").split("Server response")[1]
    assert "200" in answer and '"status": "ready"' in answer


def test_nothing_comes_from_elsewhere(page, server):
    loaded = page.js("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert [url for url in loaded if not url.startswith((server.address, "data:"))] == []
