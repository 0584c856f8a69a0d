"""Asks a running server: /v1/detect and /v1/segment for objects, /v1/generate for everything else."""

import base64
import io
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from scoring import Found

CLIENTS = 8
TRIES = 60  # at a queue that is full, one a second
MAX_TOKENS = 320  # six masks


class Server:
    def __init__(self, address):
        self.name = address
        self.address = address.rstrip("/")

    def answers(self, asked):
        """The answer to each (picture, prompt): a text, or what was found."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            return list(pool.map(lambda one: self._answer(*one), asked))

    def _answer(self, image, prompt):
        verb, _, rest = prompt.text.partition(" ")
        if prompt.measure not in ("boxes", "masks"):
            return self._post("generate", image, prompt=prompt.text)["text"]
        result = self._post(verb, image, objects=rest.split(" ; "))
        return [_found(o) for o in result["objects"]]

    def _post(self, route, image, **fields):
        png = io.BytesIO()
        # The server spends its time on the model; a smaller file would only cost time here.
        image.save(png, "PNG", compress_level=1)
        fields |= {"image": base64.b64encode(png.getvalue()).decode(), "max_tokens": MAX_TOKENS}
        request = urllib.request.Request(
            f"{self.address}/v1/{route}", json.dumps(fields).encode(), {"Content-Type": "application/json"}
        )
        for _ in range(TRIES):
            try:
                with urllib.request.urlopen(request) as response:
                    return json.load(response)["results"][0]
            except urllib.error.HTTPError as error:
                if error.code != 429:
                    raise SystemExit(f"{route}: {error.code} {error.read().decode()}") from error
                time.sleep(1)
        raise SystemExit(f"the server's queue stayed full for {TRIES} s")


def _found(o):
    box = tuple(o["box_normalized"][side] for side in ("x0", "y0", "x1", "y1"))
    mask = None
    if "mask" in o:
        mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(o["mask"])))) > 127
    return Found(o["label"], box, o["score"], mask)
