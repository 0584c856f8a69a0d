"""Clients that ask about pictures, on the one route that every proxy passes on: chats."""

import base64
import contextlib
import io
import os
import random
import threading
import time
from dataclasses import dataclass
from hashlib import sha256

import httpx
from PIL import Image

LONG_ANSWER = "segment red circle ; blue square"


def picture(side=48):
    """A PNG that no server has seen, of about 3 x side² bytes."""
    file = io.BytesIO()
    # Noise doesn't get smaller, so don't try.
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(file, "PNG", compress_level=0)
    return file.getvalue()


def bitmap(side):
    """A BMP of one colour and 3 x side² bytes."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(file, "BMP")
    return file.getvalue()


class Client:
    """One connection to a server or proxy. `key_header` is where the proxy looks for the image's key, if it is sent."""

    def __init__(self, address, key_header=None):
        self.http = httpx.Client(base_url=f"http://{address}", timeout=60)
        self.key_header = key_header

    def _request(self, image, prompt, stream):
        url = "data:image/png;base64," + base64.b64encode(image).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
        body = {"model": "demo", "messages": [{"role": "user", "content": content}], "stream": stream}
        headers = {self.key_header: sha256(image).hexdigest()} if self.key_header else {}
        return {"method": "POST", "url": "/v1/chat/completions", "json": body, "headers": headers}

    def ask(self, image, prompt="caption en"):
        return self.http.request(**self._request(image, prompt, stream=False))

    def arrivals(self, image):
        """When the events of a streamed answer came."""
        with self.http.stream(**self._request(image, LONG_ANSWER, stream=True)) as response:
            assert response.status_code == 200, response.read()
            return [time.monotonic() for line in response.iter_lines() if line.startswith("data: ")]


@dataclass
class Asked:
    """A request of a load."""

    start: float
    outcome: int | str | None = None  # a status, or what broke; None while it is under way


class Load:
    """Clients that ask about new pictures one after the other, each with its header for the key, or with none."""

    def __init__(self, address, headers, sides=(48, 48)):
        self.asked = []
        self.sides = sides
        self._going, self._may_ask = True, threading.Event()
        self._may_ask.set()
        self._threads = [threading.Thread(target=self._run, args=(address, header)) for header in headers]

    def _run(self, address, key_header):
        client = Client(address, key_header)
        while self._going:
            self._may_ask.wait()
            asked = Asked(time.monotonic())
            self.asked.append(asked)
            try:
                asked.outcome = client.ask(picture(random.randint(*self.sides))).status_code
            except httpx.HTTPError as error:
                asked.outcome = repr(error)
            # Bounded, so that the machine isn't what is tested.
            time.sleep(0.02)

    def pause(self):
        """Asks nothing new, and waits until nothing is left but what hangs. Returns that."""
        self._may_ask.clear()
        time.sleep(1)
        return self.waiting(longer_than=1)

    def waiting(self, longer_than):
        before = time.monotonic() - longer_than
        return [asked for asked in self.asked if asked.outcome is None and asked.start < before]

    def resume(self):
        self._may_ask.set()

    @property
    def succeeded(self):
        return sum(asked.outcome == 200 for asked in self.asked)

    @property
    def failed(self):
        return [asked for asked in self.asked if asked.outcome not in (None, 200)]

    @contextlib.contextmanager
    def running(self):
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._going = False
            self.resume()
            for thread in self._threads:
                thread.join()
