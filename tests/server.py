"""A running server with the demo, for the tests in Python."""

import os
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "examples/images"
BINARY = os.environ.get("PALIGEMMA_SERVER", ROOT / "target/release/paligemma-server")


class Server:
    """`paligemma-server serve`, ready to answer; on a free port unless one is named."""

    def __init__(self, *flags, port=0):
        command = [BINARY, "serve", "--port", str(port), "--log-level", "error", *flags]
        # Variables of this name are settings to the server, and it refuses those that it does not know.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PALIGEMMA_")}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        self.url = self.address + "/v1"
        self._wait_until_ready()

    def _wait_until_ready(self):
        for _ in range(600):
            try:
                urllib.request.urlopen(self.address + "/health/ready")
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("never ready")

    def metric(self, name):
        """The sum over all labels of a metric."""
        lines = urllib.request.urlopen(self.address + "/metrics").read().decode().splitlines()
        values = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")]
        return sum(float(value) for key, value in values if key.split("{")[0] == name)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0
