"""Chromium, and the servers that its pages come from."""

import json
import os
import shutil

import pytest
from page import Page
from selenium import webdriver
from server import ROOT, Server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def start_chromium(*more_flags):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    chromedriver = shutil.which("chromedriver")
    if not browser or not chromedriver:
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    flags = ["--headless=new", "--disable-dev-shm-usage", "--window-size=1280,900", *more_flags]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium's sandbox does not work for root
    for flag in flags:
        options.add_argument(flag)
    return webdriver.Chrome(options, webdriver.ChromeService(chromedriver))


@pytest.fixture(scope="session")
def chromium():
    driver = start_chromium()
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def server(chromium):
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def page(chromium, server):
    """The playground of a server with default settings."""
    page = Page(chromium)
    page.open(server.address)
    yield page
    page.assert_no_console_errors()


@pytest.fixture
def other_page(chromium):
    """Starts a server with the flags given and opens its playground: (server, page)."""
    page, servers = Page(chromium), []

    def start(*flags):
        servers.append(Server(*flags))
        page.open(servers[-1].address)
        return servers[-1], page

    yield start
    page.assert_no_console_errors()
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def endless(tmp_path_factory):
    """The demo with another end-of-text token than it learnt: its answers don't end by themselves."""
    folder = tmp_path_factory.mktemp("models") / "endless"
    shutil.copytree(ROOT / "models/demo", folder)
    for name in ("config.json", "generation_config.json"):
        config = json.loads((folder / name).read_text())
        config["eos_token_id"] = config["pad_token_id"]
        if "text_config" in config:
            config["text_config"]["max_position_embeddings"] = 65536
        (folder / name).write_text(json.dumps(config))
    flags = ["--context", "65536", "--max-tokens-default", "60000"]
    return ["--model", str(folder), "--slots", "1", "--shutdown-grace", "1s", *flags]
