"""Requests that schemathesis makes up from openapi.yaml, good and bad ones, against the running server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from server import Server

CASES = 80  # an operation
SECONDS = 240  # at most


@pytest.fixture(scope="module")
def server():
    running = Server("--kserve-routes", "true", "--sagemaker-routes", "true", "--label-studio-routes", "true")
    yield running
    running.stop()


# In a form everything is a text, so that `false` is a question as good as any other.
@pytest.mark.parametrize(
    ("media_type", "without"), [("application/json", ""), ("multipart/form-data", "negative_data_rejection")]
)
def test_the_server_keeps_to_its_contract(server, media_type, without):
    command = [Path(sys.executable).with_name("schemathesis"), "run", server.address + "/openapi.yaml"]
    command += ["--checks", "all", "--max-examples", str(CASES), "--generation-deterministic"]
    command += ["--continue-on-failure", "--no-color"]
    command += ["--exclude-checks", without] if without else []
    environment = os.environ | {"MEDIA_TYPE": media_type}
    folder = Path(__file__).parent
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    print(ran.stdout[ran.stdout.index(" SUMMARY ") :])
