"""The server and the doctor of the CUDA binary on the fake driver; check.sh runs this.

The server must answer, though what it says means nothing. The doctor must find that nothing is right."""

import base64
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests"))
from server import BINARY, IMAGES, Server  # noqa: E402

PICTURE = base64.b64encode((IMAGES / "circle-and-square.jpg").read_bytes()).decode()
TOKENS = 12


def ask(server, **fields):
    body = {"image": PICTURE, "prompt": "caption en", "max_tokens": TOKENS, **fields}
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(server.url + "/generate", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        [result] = json.load(response)["results"]
    assert result["finish_reason"] == "length" and result["text"], result
    return result["text"]


def check_server(checkpoint):
    for dtype in ["bf16", "f32", "q8_0"]:
        adapter = f"one={checkpoint}/adapter-1"
        server = Server("--device", "cuda", "--dtype", dtype, "--model", checkpoint, "--adapter", adapter)
        base, adapted, sampled = ask(server), ask(server, model="one"), ask(server, temperature=1)
        print(f"the server in {dtype}: {base!r}, with an adapter {adapted!r}, sampled {sampled!r}")
        server.stop()


def check_doctor():
    command = [BINARY, "doctor", "--device", "cuda", "--only-checks", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 1, f"the doctor ended with {done.returncode}"
    checks = json.loads(done.stdout)["checks"]
    right = [check["name"] for check in checks if check["ok"]]
    assert checks and not right, f"the doctor finds right what was never computed: {right}"
    print(f"the doctor: {len(checks)} of {len(checks)} checks failed, as they must")


check_server(sys.argv[1])
check_doctor()
