"""paligemma-server as a client sees it: over HTTP, the picture's decoding included."""

import base64
import http.client
import io
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pictures
import process

PATIENCE = 3600  # seconds for one answer, so that a slow machine finishes, too


class Server:
    """One binary, loaded with one checkpoint, and with more options."""

    def __init__(self, name, binary, args, side, more=()):
        self.name, self.side = name, side
        command = [binary, "serve", "--model", args.checkpoint, "--port", "0", "--log-level", "warn"]
        command += ["--device", args.device, "--dtype", args.dtype, "--slots", str(args.slots)]
        command += ["--request-timeout", f"{PATIENCE}s", *more]
        # Variables of this name are settings to the server; a measurement is of what it says.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PALIGEMMA_")}
        started = time.perf_counter()
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self.host = self.process.stdout.readline().strip().removeprefix("http://")
        while not self._is_ready():
            if self.process.poll() is not None:
                raise SystemExit(f"{binary} ended with {self.process.returncode} while it loaded")
            time.sleep(0.05)
        self.ready_seconds = time.perf_counter() - started
        self.memory_ready = process.memory(self.process.pid)
        self.version = subprocess.check_output([binary, "--version"], text=True).strip()

    def _is_ready(self):
        try:
            connection = http.client.HTTPConnection(self.host, timeout=5)
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def warm(self, _tokens):
        """Answers once."""
        self.run(0, 1, 2)

    def takes(self, count):
        """Whether so many requests at once are measured here."""
        return True

    def run(self, seed, count, tokens, models=None):
        """Sends so many requests at once, each to a model; each answer's times in seconds since they were sent."""
        seen = zip(pictures.noise(self.side, seed, count), models or [None] * count)
        bodies = [self._body(picture, tokens, model) for picture, model in seen]
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(self._ask, bodies))

    def _body(self, picture, tokens, model):
        file = io.BytesIO()
        picture.save(file, "PNG")
        body = {"image": base64.b64encode(file.getvalue()).decode(), "prompt": pictures.PROMPT}
        body |= {"model": model} if model else {}
        # With log probabilities, each token has an event of its own, even when it has no text yet.
        return json.dumps(body | {"max_tokens": tokens, "stream": True, "logprobs": 0})

    def _ask(self, body):
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        started = time.perf_counter()
        connection.request("POST", "/v1/generate", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise SystemExit(f"{self.name} answered {response.status}: {response.read().decode()}")
        lines = [(time.perf_counter() - started, line) for line in response]
        events = [(event.split()[1], when, json.loads(data[6:])) for (when, event), (_, data) in _pairs(lines)]
        if events[-1][0] != b"done":
            raise SystemExit(f"{self.name} ended a stream with {events[-1]}")
        times = [when for kind, when, data in events if kind == b"delta" and data.get("logprobs")]
        done = events[-1][2]
        if len(times) < 2:
            raise SystemExit(f"{self.name} gave {len(times)} tokens, and a time between tokens needs two")
        return {"times": times, "timings": done["timings"], "usage": done["usage"]}

    def describe(self):
        memory = {"ready": self.memory_ready, "end": process.memory(self.process.pid)}
        return {"kind": "server", "version": self.version, "ready_seconds": self.ready_seconds, "memory": memory}

    def stop(self):
        self.process.terminate()
        self.process.wait()


def _pairs(lines):
    """Each `event:` line with the `data:` line after it."""
    lines = [(when, line) for when, line in lines if line.startswith((b"event: ", b"data: "))]
    return zip(lines[::2], lines[1::2])
