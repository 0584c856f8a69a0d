"""Code of other languages, run as its readers would."""

import shutil
import subprocess
import sys

import pytest

NEWEST_OLD_NODE = 19  # openAsBlob came with Node 20


def run_code(language, code, folder, **options):
    """What the code prints; `language` is sh, python or javascript."""
    commands = {
        "sh": ["bash", "-c", code],
        "python": [sys.executable, "-c", code],
        "javascript": ["node", "--input-type=module", "-e", code],
    }
    skip_without(language)
    ran = subprocess.run(commands[language], cwd=folder, capture_output=True, text=True, timeout=60, **options)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def skip_without(language):
    program = {"sh": "curl", "javascript": "node"}.get(language, sys.executable)
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    if language == "javascript":
        version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
        if int(version.lstrip("v").split(".")[0]) <= NEWEST_OLD_NODE:
            pytest.skip(f"node is {version.strip()}, and these examples need 20")
