"""What kustomize makes of the folders in `deploy`, and the schemas that it has to fit."""

import functools
import importlib.resources
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml
from referencing import Registry, Resource

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
SCHEMAS = Path(__file__).parent / "schemas"
SETTINGS = tomllib.loads((ROOT / "config/default.toml").read_text())
# The oldest version that the documentation promises, and the newest whose schemas there are.
VERSIONS = ["1.30", "1.37"]

OVERLAYS = sorted(folder.name for folder in (KUBERNETES / "overlays").iterdir())
COMPONENTS = sorted(folder.name for folder in (KUBERNETES / "components").iterdir())


@functools.cache
def build(folder):
    """The objects of a folder with a kustomization."""
    kubectl = Path(sys.executable).with_name("kubectl")
    made = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert not made.stderr, made.stderr
    return list(yaml.safe_load_all(made.stdout))


def overlay(name):
    return build(KUBERNETES / "overlays" / name)


def compose(folder, base, components):
    """An overlay as an operator would write one: `base` and `components`, in an empty `folder`."""
    paths = {
        "resources": [KUBERNETES / "overlays" / base],
        "components": [KUBERNETES / "components" / name for name in components],
    }
    text = {key: [os.path.relpath(path, folder) for path in value] for key, value in paths.items()}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"kind": "Kustomization", **text}))
    return build(folder)


def only(objects, kind):
    found = [it for it in objects if it["kind"] == kind]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def pod_template(objects):
    return only(objects, "Deployment")["spec"]["template"]


def variables(objects, container):
    """The container's variables, those of its ConfigMaps included."""
    values = {}
    for source in container.get("envFrom", []):
        name = source["configMapRef"]["name"]
        values.update(next(it for it in objects if it["kind"] == "ConfigMap" and it["metadata"]["name"] == name)["data"])
    values.update({it["name"]: it.get("value") for it in container.get("env", [])})
    return values


@functools.cache
def definitions():
    """Kubernetes' own definitions, in which unknown fields are refused."""
    schemas = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    text = (schemas / f"v{VERSIONS[-1]}.0-local-strict" / "_definitions.json").read_text()
    return Resource.from_contents(json.loads(text)) @ Registry()


@functools.cache
def validator(name):
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=definitions())


def validate(it):
    """Raises `jsonschema.ValidationError` for an object that an API server would refuse."""
    own = f"{it['kind'].lower()}"
    if (SCHEMAS / f"{own}.json").exists():
        validator(own).validate(it)
        return
    for version in VERSIONS:
        kubernetes_validate.validate(it, version, strict=True)


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]
