"""Real replicas of the server with the demo, and requests to them."""

import base64
import contextlib
import hashlib
import io
import json
import os
import random
import subprocess
import time
import urllib.request
from pathlib import Path

from PIL import Image, ImageDraw

BINARY = Path(__file__).resolve().parents[2] / "target/release/paligemma-server"
OBJECTS = ["red circle", "blue square", "green triangle"]
FEATURES = 144 * 128 * 4  # bytes that the demo's image cache keeps of an image
# Clients come before servers, so that a busy server does not hold up the clock.
CLIENTS_PRIORITY, SERVERS_PRIORITY = 20, 10
TURNS = Path("/proc/sys/kernel/sched_rr_timeslice_ms")
SLOTS, DECODE_THREADS, MAX_TOKEN_GAP = 8, 2, 0.25
FLAGS = ["--threads", "1", "--slots", str(SLOTS), "--decode-threads", str(DECODE_THREADS), "--max-token-gap", "250ms"]


class Replica:
    """A server process that computes on one thread."""

    def __init__(self, binary, real_time, *flags):
        # Variables of this name are settings to the server; a measurement is of what it says.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PALIGEMMA_")}
        command = [binary, "serve", "--port", "0", "--log-level", "error", *FLAGS, *flags]
        before_it_runs = (lambda: use_real_time(SERVERS_PRIORITY)) if real_time else None
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=before_it_runs
        )
        self.address = self.process.stdout.readline().strip()
        while not self._is_ready():
            time.sleep(0.05)

    def _is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"the server ended with {self.process.returncode} while it loaded")
        try:
            return urllib.request.urlopen(self.address + "/health/ready").status == 200
        except OSError:
            return False

    def metrics(self):
        """The values of /metrics, without the series that have labels."""
        lines = urllib.request.urlopen(self.address + "/metrics").read().decode().splitlines()
        pairs = [line.split() for line in lines if line and line[0] != "#" and "{" not in line]
        return {name: float(value) for name, value in pairs}

    def stop(self):
        self.process.terminate()
        self.process.wait()


def use_real_time(priority):
    """Runs this process, and what it starts, before all ordinary processes of the machine."""
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))


@contextlib.contextmanager
def short_turns():
    """Real-time processes take turns as often as ordinary ones, where the kernel's default is 100 ms."""
    before = TURNS.read_text()
    TURNS.write_text("3")
    try:
        yield
    finally:
        TURNS.write_text(before)


def picture(number):
    """A PNG with the three objects, the first at a random place."""
    random_ = random.Random(number)
    image = Image.new("RGB", (224, 224), "white")
    draw = ImageDraw.Draw(image)
    x, y, side = random_.uniform(5, 40), random_.uniform(5, 40), random_.uniform(45, 70)
    draw.ellipse((x, y, x + side, y + side), fill=(230, 30, 30))
    draw.rectangle((140, 130, 200, 190), fill=(30, 60, 220))
    draw.polygon([(30, 200), (65, 130), (100, 200)], fill=(30, 160, 60))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def key(file):
    return hashlib.sha256(file).hexdigest()


def body(files, tokens):
    images = [base64.b64encode(file).decode() for file in files]
    return json.dumps({"images": images, "objects": OBJECTS, "max_tokens": tokens}).encode()


async def ask(client, address, body, headers=()):
    """Sends a request; its latency in seconds, and the answer."""
    headers = {"content-type": "application/json", **dict(headers)}
    started = time.perf_counter()
    async with client.post(address + "/v1/detect", data=body, headers=headers) as response:
        text = await response.read()
        latency = time.perf_counter() - started
        if response.status != 200:
            raise SystemExit(f"{address} answered {response.status}: {text.decode()}")
    return latency, json.loads(text)


async def ask_for(client, address, seconds, first_picture, tokens):
    """One client that asks about new pictures, one after the other, for so long."""
    latencies, end = [], time.perf_counter() + seconds
    for number in range(first_picture, first_picture + 1_000_000):
        if time.perf_counter() > end:
            return latencies
        latency, _ = await ask(client, address, body([picture(number)], tokens))
        latencies.append(latency)
