"""The workflows fit GitHub's schema, and what they run is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from server import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def fits(*files):
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *files]
    return subprocess.run(command, capture_output=True, text=True)


def test_they_fit_the_schema():
    assert len(WORKFLOWS) > 2
    checked = fits(*WORKFLOWS)
    assert checked.returncode == 0, checked.stdout


def test_the_schema_refuses_a_misspelt_field(tmp_path):
    wrong = tmp_path / "release.yml"
    wrong.write_text((ROOT / ".github/workflows/release.yml").read_text().replace("needs:", "need:"))
    assert fits(wrong).returncode != 0


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_the_scripts_that_they_run_are_there(workflow):
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    lines = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    for script in re.findall(r"^(?:tools|tests|\.ci|fuzz)/\S+", "\n".join(lines), re.MULTILINE):
        assert (ROOT / script).exists(), script


def test_a_release_has_the_images_that_the_dockerfile_makes():
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    targets = {each["target"] for each in release["jobs"]["images"]["strategy"]["matrix"]["include"]}
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert targets == set(re.findall(r"^FROM \S+:nonroot AS (\w+)$", dockerfile, re.MULTILINE))
