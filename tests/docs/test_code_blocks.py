"""What the documentation shows is run, and has to answer what it shows."""

import json
import math
import re
from itertools import zip_longest

import pytest
from code_blocks import NOT_RUN, blocks
from programs import run_code
from server import ROOT, Server

FILES = ["README.md", *sorted(str(file.relative_to(ROOT)) for file in (ROOT / "docs").glob("*.md"))]
# Other with every answer, or on every processor.
VARYING = {"id", "created", "timings", "request_id", "instructions"}


def is_run(block):
    if NOT_RUN.fullmatch(block.mark):
        return False
    return block.language in ("python", "javascript") or block.language == "sh" and block.code.startswith("curl ")


RUN = [block for file in FILES for block in blocks(file) if is_run(block)]


@pytest.fixture(scope="module")
def server():
    # AMX multiplies prefixes in bf16, and a box may differ by a pixel.
    running = Server("--cpu-instructions", "portable")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def server_with_adapter():
    adapter = f"counting={ROOT / 'models/demo-counting'}"
    running = Server("--cpu-instructions", "portable", "--adapter", adapter)
    yield running
    running.stop()


@pytest.fixture
def folder(tmp_path):
    """What the examples expect around them; what they write goes elsewhere than into the repository."""
    for name in ("README.md", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(block, server, folder):
    code = block.code.replace("localhost:8080", server.address.removeprefix("http://"))
    return run_code(block.language, code, folder)


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.place)
def test_the_code_runs_and_answers_as_shown(block, request, folder):
    server = request.getfixturevalue("server_with_adapter" if "counting" in block.code else "server")
    output = run(block, server, folder)
    if block.answer is None:
        return
    if block.answer_language == "json":
        compare(json.loads(block.answer), json.loads(output))
    else:
        compare_lines(block.answer, output)


def compare_lines(shown, real):
    for expected, line in zip_longest(shown.strip().splitlines(), real.strip().splitlines(), fillvalue=""):
        if expected.startswith("data: "):
            compare(json.loads(expected[6:]), json.loads(line[6:]))
        else:
            compare(expected, line.rstrip())


def compare(shown, real, at="answer"):
    """Whether `real` is what is shown: fields may be left out, texts cut by `…`, numbers rounded."""
    if isinstance(shown, dict):
        assert set(shown) <= set(real), at
        for key, value in shown.items():
            assert type(value) is type(real[key]), f"{at}.{key}"
            if key not in VARYING:
                compare(value, real[key], f"{at}.{key}")
    elif isinstance(shown, list):
        assert len(shown) == len(real), at
        for index, (one, other) in enumerate(zip(shown, real)):
            compare(one, other, f"{at}[{index}]")
    elif isinstance(shown, float):
        # Processors round differently, and so do batches.
        assert math.isclose(shown, real, rel_tol=0.05, abs_tol=0.01), f"{at}: {shown}, not {real}"
    elif isinstance(shown, str) and shown.endswith("…"):
        assert real.startswith(shown[:-1]), f"{at}: {shown}, not {real}"
    else:
        assert shown == real, f"{at}: {shown}, not {real}"


def test_waiting_for_a_full_queue_gets_all_answers(folder):
    """The example that sends many requests, against a server that refuses most of them at first."""
    [many] = [block for block in RUN if "asyncio.gather" in block.code]
    narrow = Server("--slots", "1", "--queue", "1")
    compare_lines(many.answer, run(many, narrow, folder))
    assert narrow.metric("paligemma_generations_rejected_total") > 0
    narrow.stop()


def test_every_code_of_an_error_is_explained():
    contract = (ROOT / "openapi.yaml").read_text()
    codes = re.search(r"^    ErrorCode:.*?enum:\n((?: +- \w+\n)+)", contract, re.MULTILINE | re.DOTALL)
    known = set(re.findall(r"- (\w+)", codes.group(1)))
    errors = (ROOT / "docs/api.md").read_text().split("## Errors")[1].split("\n## ")[0]
    rows = [row.split("|")[2] for row in errors.splitlines() if row.startswith("| ") and "`" in row]
    assert set(re.findall(r"`(\w+)`", "".join(rows))) == known
