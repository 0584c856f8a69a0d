"""The server and the doctor of the CUDA binary on the fake driver; check.sh runs this.

The server must answer, though what it says means nothing. The doctor must find that nothing is right. Both
do so on a card that has no bf16, too. On a card with little memory the server must stay within it, and say what
is wrong where it can't."""

import base64
import json
import os
import struct
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zlib
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests"))
from server import BINARY, IMAGES, Server  # noqa: E402

PICTURE = base64.b64encode((IMAGES / "circle-and-square.jpg").read_bytes()).decode()
TOKENS = 12
GIB = 1 << 30


def answers(server, route, **fields):
    body = {"max_tokens": TOKENS, **fields}
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{server.url}/{route}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        results = json.load(response)["results"]
    assert all(result["finish_reason"] == "length" for result in results), results
    return results


def ask(server, **fields):
    [result] = answers(server, "generate", image=PICTURE, prompt="caption en", **fields)
    assert result["text"], result
    return result["text"]


def grey_picture(shade):
    """A PNG of 8 by 8 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + bytes([shade] * 8)) * 8))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + head + rows + chunk(b"IEND", b"")).decode()


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


# What the card does when FAKE_GRAPHS says so.
DOES = {"record": "record", "kernel": "record a kernel", "launch": "launch a graph"}


def check_refused_graphs(checkpoint, refused):
    """A card that records nothing computes step by step, and the doctor says so."""
    for choice in "auto", "on":
        server = Server("--device", "cuda", "--model", checkpoint, "--cuda-graphs", choice)
        print(f"the server with recorded steps {choice}, when the card refuses to {DOES[refused]}: {ask(server)!r}")
        server.stop()
        checks = doctor("--cuda-graphs", choice)["checks"]
        recorded = [check for check in checks if check["name"].startswith("recorded decode steps")]
        words = "STREAM_CAPTURE" if refused == "kernel" else "NOT_SUPPORTED"
        assert recorded and all(words in check["finding"] for check in recorded), recorded


@contextmanager
def card(**variables):
    """A fake card as these variables say: see README.md."""
    os.environ.update({name: str(value) for name, value in variables.items()})
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def refusal(*flags):
    """What the server says that does not start, because a setting is wrong."""
    command = [BINARY, "serve", "--device", "cuda", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PALIGEMMA_")}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2, f"{done.returncode}: {done.stderr}"
    assert " loading " not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


def check_old_card(checkpoint):
    """Turing has no bf16: it takes q8_0 by itself."""
    for flags in [], ["--dtype", "f32"], ["--dtype", "q4k"]:
        server = Server("--device", "cuda", "--model", checkpoint, *flags)
        [model] = json.load(urllib.request.urlopen(server.url + "/models"))["data"]
        assert model["dtype"] == (flags[-1] if flags else "q8_0"), model
        print(f"the server in {model['dtype']} on an old card: {ask(server)!r}")
        server.stop()
    check_doctor("q8_0")
    refused = "dtype bf16 can't run on cuda:0, whose compute capability is 7.5: bf16 needs 8.0 (Ampere) or newer"
    told = refusal("--dtype", "bf16", "--model", checkpoint)
    assert refused in told, told
    print(f"the server in bf16 on an old card: {told}")


def check_too_little_memory(checkpoint):
    """Nothing fits, which the server says before it loads anything."""
    with card(FAKE_MEMORY=GIB):
        told = refusal("--model", checkpoint)
    for part in [
        "the model does not fit into the GPU's memory: 1.0 GiB are free, and it needs 1.5 GiB (",
        "no smaller dtype fits: ",
        "or use a smaller model, or device cpu",
    ]:
        assert part in told, told
    print(f"the server with too little memory: {told}")


def check_just_enough_memory(checkpoint):
    """As many slots as fit, all of them in use, and large prefills take no more than there is. The fake driver holds
    back what CUDA takes for itself, so an allocation beyond the plan fails, and the model with it."""
    flags = ["--prefill-batch-tokens", "16384", "--context", "4096", "--max-images", "64"]
    flags += ["--image-cache", "0", "--model-restarts", "0", "--device", "cuda", "--model", checkpoint]
    flags += ["--adapter", f"one={checkpoint}/adapter-1"]
    for dtype, memory in [("bf16", 1_660_000_000)] + [(dtype, 2_120_000_000) for dtype in ["f32", "q8_0", "q4k"]]:
        with tempfile.TemporaryDirectory() as folder:
            peak = Path(folder) / "peak"
            with card(FAKE_MEMORY=memory, FAKE_PEAK=peak):
                server = Server(*flags, "--dtype", dtype)
                slots = int(server.metric("paligemma_slots"))
                # So many images together have as many scores as the plan allows for.
                assert 32 <= slots < 64, f"{slots} slots: too little memory, or more than enough"
                images = [grey_picture(shade) for shade in range(slots)]
                for fields in {}, {"model": "one"}:
                    assert len(answers(server, "caption", images=images, **fields)) == slots
                server.stop()
            taken = int(peak.read_text()) / (memory - GIB)
        # More than the plan is refused; much less means a plan that keeps slots out in vain.
        assert 0.6 < taken <= 1, taken
        print(f"the server in {dtype} with just enough memory: {slots} slots, {taken:.0%} of what was left for the model")


def check_full_memory(checkpoint):
    """Memory runs out in a step: the model is loaded again and the request goes on, or fails with a reason."""
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "full"
        with card(FAKE_FULL=full):
            server = Server("--device", "cuda", "--model", checkpoint)
            full.touch()
            text = ask(server)
            assert not full.exists() and server.metric("paligemma_model_restarts_total") == 1
            print(f"the server after memory ran out: {text!r}")
            server.stop()

            server = Server("--device", "cuda", "--model", checkpoint, "--model-restarts", "0")
            full.touch()
            try:
                raise AssertionError(ask(server))
            except urllib.error.HTTPError as error:
                told = json.load(error)["detail"]
            assert "the GPU ran out of memory (" in told and " are free now): use fewer slots, " in told, told
            print(f"the server when memory ran out: {told}")
            assert server.process.wait(timeout=60) == 3


check_server(sys.argv[1])
check_doctor("bf16")
for refused in "record", "kernel", "launch":
    with card(FAKE_GRAPHS=refused):
        check_refused_graphs(sys.argv[1], refused)
with card(FAKE_CAPABILITY=75):
    check_old_card(sys.argv[1])
check_too_little_memory(sys.argv[1])
check_just_enough_memory(sys.argv[1])
check_full_memory(sys.argv[1])
