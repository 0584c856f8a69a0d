"""A server with the demo, and a picture to ask about."""

import base64
import os

import pytest
from server import IMAGES, Server

KEY = "the-key"

# LiteLLM asks a host on the internet for prices unless it is told to use its own list.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


@pytest.fixture(scope="session")
def server():
    running = Server("--api-keys", KEY, "--served-model-name", "demo", "--served-model-name", "gpt-4o")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def narrow():
    """A server with one slot and a queue of one, whose second waiting request is refused. It is slow, so that a
    client can leave in the middle of an answer."""
    running = Server("--api-keys", KEY, "--slots", "1", "--queue", "1", "--cpu-instructions", "portable")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def picture():
    """A data: URL of a red circle."""
    file = IMAGES / "red-circle.png"
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


@pytest.fixture
def messages(picture):
    parts = [{"type": "text", "text": "cap en"}, {"type": "image_url", "image_url": {"url": picture}}]
    return [{"role": "user", "content": parts}]
