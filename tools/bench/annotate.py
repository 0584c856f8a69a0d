"""Compares the pictures per second of `annotate` with the best of the server.

Both label the same pictures with the same prompt, taking turns in one run. The server is measured with several numbers
of concurrent clients, of which the best counts; `annotate` is timed as a whole command, including its start. The cache
of image features is off for both. Prints medians with quartiles, and the ratio.

    python tools/bench/annotate.py --binary target/release/paligemma-server
"""

import argparse
import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))
import scenes  # noqa: E402

CLIENTS = (8, 16, 32)
BOUNDARY = "a-part-of-the-form"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/paligemma-server")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        draw(folder, args.pictures)
        served, annotated = {clients: [] for clients in CLIENTS}, []
        server = Server(args)
        try:
            bodies = [form(path.read_bytes()) for path in sorted(folder.iterdir())]
            server.label(bodies[:50], 8)  # warm
            for repeat in range(args.repeats):
                for clients in CLIENTS:
                    served[clients].append(args.pictures / server.label(bodies, clients))
                annotated.append(args.pictures / annotate(args, folder, Path(name) / f"{repeat}.jsonl"))
        finally:
            server.stop()
    report(served, annotated)


def draw(folder, count):
    folder.mkdir()
    rng = np.random.default_rng(1)
    for index in range(count):
        scenes.draw(scenes.sample(rng)).convert("RGB").save(folder / f"{index:05}.jpg", quality=90)


def form(picture):
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return part.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


class Server:
    def __init__(self, args):
        command = [args.binary, "serve", "--model", args.model, "--port", "0", "--image-cache", "0", "--log-level", "off"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.host = self.process.stdout.readline().strip().removeprefix("http://")
        while self.get("/health/ready") != 200:
            time.sleep(0.1)

    def get(self, path):
        connection = http.client.HTTPConnection(self.host)
        connection.request("GET", path)
        return connection.getresponse().status

    def label(self, bodies, clients):
        """Seconds until this many clients have sent all bodies and got their answers."""
        left, lock = iter(bodies), threading.Lock()

        def client():
            connection = http.client.HTTPConnection(self.host)
            while True:
                with lock:
                    body = next(left, None)
                if body is None:
                    return
                headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
                connection.request("POST", "/v1/caption", body, headers)
                answer = connection.getresponse()
                text = answer.read()
                assert answer.status == 200, text

        threads = [threading.Thread(target=client) for _ in range(clients)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - begun

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def annotate(args, folder, output):
    """Runs the command and returns its duration in seconds."""
    command = [args.binary, "annotate", folder, "--task", "caption", "--output", output, "--model", args.model]
    begun = time.perf_counter()
    subprocess.run([*command, "--image-cache", "0", "--log-level", "off"], check=True, capture_output=True)
    seconds = time.perf_counter() - begun
    assert len(output.read_text().splitlines()) == args.pictures
    return seconds


def report(served, annotated):
    def line(name, values):
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{name:<22}{middle:8.1f} pictures/s  ({low:.1f} to {high:.1f})")
        return middle

    best = max(line(f"server, {clients} clients", values) for clients, values in served.items())
    ratio = line("annotate", annotated) / best
    print(f"annotate / best of the server: {ratio:.2f}")


if __name__ == "__main__":
    main()
