"""Requests to a server, with the standard library alone."""

import base64
import http.client
import json
import time
from pathlib import Path

from engine import ROOT

# What the demo says of this picture.
TRUE_CAPTION = "a red circle and a blue square on a white background"
PICTURE = ROOT / "examples/images/circle-and-square.jpg"
# The demo answers this with boxes and masks: some fifty tokens, enough of a stream to time.
LONG_PROMPT = "segment red circle ; blue square"


class Answer:
    def __init__(self, address, method, path, body=None, content_type="application/json", timeout=180, key=None):
        connection = http.client.HTTPConnection(address, timeout=timeout)
        headers = {"content-type": content_type} if body is not None else {}
        headers |= {"authorization": f"Bearer {key}"} if key else {}
        connection.request(method, path, body, headers)
        self.response = connection.getresponse()
        self.status = self.response.status

    def text(self):
        return self.response.read().decode()

    def json(self):
        return json.loads(self.text())


def get(address, path):
    return Answer(address, "GET", path)


def generate(address, stream=False, prompt=LONG_PROMPT, picture=PICTURE, timeout=180, **more):
    image = base64.b64encode(Path(picture).read_bytes()).decode()
    body = {"image": image, "prompt": prompt, "stream": stream, **more}
    return Answer(address, "POST", "/v1/generate", json.dumps(body), timeout=timeout)


def caption(address, picture=None, key=None):
    """The caption of a picture that is uploaded as a file of a form; the bytes are sent as they are."""
    picture = picture or PICTURE.read_bytes()
    edge = "paligemma-check"
    head = f'--{edge}\r\ncontent-disposition: form-data; name="image"; filename="picture"\r\n\r\n'
    body = head.encode() + picture + f"\r\n--{edge}--\r\n".encode()
    answer = Answer(address, "POST", "/v1/caption", body, f"multipart/form-data; boundary={edge}", key=key)
    assert answer.status == 200, f"{answer.status}: {answer.text()}"
    return answer.json()["results"][0]["caption"]


def events(answer):
    """Each event of a stream as it comes: its arrival in seconds, its name, its data."""
    assert answer.status == 200, f"{answer.status}: {answer.text()}"
    name = None
    while line := answer.response.readline():
        line = line.decode().rstrip("\n")
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield time.monotonic(), name, json.loads(line.removeprefix("data: "))


def bitmap(side):
    """A BMP of one colour, side x side pixels of three bytes each."""
    row = b"\xff\x00\x80" * side + bytes(-3 * side % 4)
    size = len(row) * side
    header = b"BM" + (54 + size).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    header += (40).to_bytes(4, "little") + side.to_bytes(4, "little") * 2
    header += (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24)
    return header + row * side
