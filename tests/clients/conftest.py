"""A server with the demo, and a picture to ask about."""

import base64
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("PALIGEMMA_SERVER", ROOT / "target/debug/paligemma-server")
KEY = "the-key"

# LiteLLM asks a host on the internet for prices unless it is told to use its own list.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


class Server:
    def __init__(self, *flags):
        command = [BINARY, "serve", "--port", "0", "--api-keys", KEY, "--log-level", "error", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        self.url = self.address + "/v1"

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0


@pytest.fixture(scope="session")
def server():
    running = Server("--served-model-name", "demo", "--served-model-name", "gpt-4o")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def narrow():
    """A server with one slot and a queue of one, whose second waiting request is refused."""
    running = Server("--slots", "1", "--queue", "1")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def picture():
    """A data: URL of a red circle."""
    file = ROOT / "examples/images/red-circle.png"
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


@pytest.fixture
def messages(picture):
    parts = [{"type": "text", "text": "cap en"}, {"type": "image_url", "image_url": {"url": picture}}]
    return [{"role": "user", "content": parts}]
