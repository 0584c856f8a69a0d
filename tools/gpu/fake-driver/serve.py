"""The server and the doctor of the CUDA binary on the fake driver; check.sh runs this.

The server must answer, though what it says means nothing. The doctor must find that nothing is right. Both
do so on a card that has no bf16, too."""

import base64
import json
import os
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
    for dtype in ["bf16", "f32", "q8_0", "q4k"]:
        adapter = f"one={checkpoint}/adapter-1"
        server = Server("--device", "cuda", "--dtype", dtype, "--model", checkpoint, "--adapter", adapter)
        base, adapted, sampled = ask(server), ask(server, model="one"), ask(server, temperature=1)
        print(f"the server in {dtype}: {base!r}, with an adapter {adapted!r}, sampled {sampled!r}")
        server.stop()
    server = Server("--device", "cuda", "--model", checkpoint, "--cuda-graphs", "auto")
    print(f"the server with recorded steps: {ask(server)!r}")
    server.stop()


def doctor(*flags):
    command = [BINARY, "doctor", "--device", "cuda", "--only-checks", "--json", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 1, f"the doctor ended with {done.returncode}"
    return json.loads(done.stdout)


def check_doctor(dtype):
    report = doctor()
    facts = {fact["name"]: fact["value"] for fact in report["machine"]}
    assert facts["runs on"] == f"cuda:0, {dtype}", facts
    checks = report["checks"]
    # Results that are all nothing are at least the same.
    compared = [check for check in checks if not check["name"].endswith(("together and alone", "by one and together"))]
    right = [check["name"] for check in compared if check["ok"]]
    assert compared and not right, f"the doctor finds right what was never computed: {right}"
    print(f"the doctor in {dtype}: {len(compared)} of {len(checks)} checks failed, as they must")


def check_refused_graphs(checkpoint):
    """A card that records nothing computes step by step, and the doctor says so."""
    for refused in "record", "launch":
        os.environ["FAKE_GRAPHS"] = refused
        for choice in "auto", "on":
            server = Server("--device", "cuda", "--model", checkpoint, "--cuda-graphs", choice)
            print(f"the server with recorded steps {choice}, when the card refuses to {refused}: {ask(server)!r}")
            server.stop()
            checks = doctor("--cuda-graphs", choice)["checks"]
            recorded = [check for check in checks if check["name"].startswith("recorded decode steps")]
            assert recorded and all("NOT_SUPPORTED" in check["finding"] for check in recorded), recorded
    del os.environ["FAKE_GRAPHS"]


def check_old_card(checkpoint):
    """Turing has no bf16: it takes q8_0 by itself."""
    os.environ["FAKE_CAPABILITY"] = "75"
    for flags in [], ["--dtype", "f32"], ["--dtype", "q4k"]:
        server = Server("--device", "cuda", "--model", checkpoint, *flags)
        [model] = json.load(urllib.request.urlopen(server.url + "/models"))["data"]
        assert model["dtype"] == (flags[-1] if flags else "q8_0"), model
        print(f"the server in {model['dtype']} on an old card: {ask(server)!r}")
        server.stop()
    check_doctor("q8_0")
    command = [BINARY, "serve", "--device", "cuda", "--dtype", "bf16", "--model", checkpoint]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PALIGEMMA_")}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    refused = "dtype bf16 can't run on cuda:0, whose compute capability is 7.5: bf16 needs 8.0 (Ampere) or newer"
    assert done.returncode == 2 and refused in done.stderr, f"{done.returncode}: {done.stderr}"
    print(f"the server in bf16 on an old card: {done.stderr.strip()}")


check_server(sys.argv[1])
check_doctor("bf16")
check_refused_graphs(sys.argv[1])
check_old_card(sys.argv[1])
