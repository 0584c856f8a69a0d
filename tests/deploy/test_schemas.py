"""The schemas refuse what they should, so that a pass in test_manifests.py means something."""

import copy

import jsonschema
import pytest
import yaml
from manifests import DEPLOY, build, only, overlay, validate, validator

POOL = DEPLOY / "gateway"

# An object that is right, where a misspelt field goes, a field with a value of a wrong type, and a required field.
CASES = {
    "kubernetes-validate": (
        lambda: only(overlay("cpu"), "Deployment"),
        "spec.template.spec.containers.0.readinessProb",
        ("spec.template.spec.containers.0.ports.0.containerPort", "http"),
        "spec.selector",
    ),
    "kubernetes-validate, another kind": (
        lambda: only(overlay("cpu"), "HorizontalPodAutoscaler"),
        "spec.minReplica",
        ("spec.maxReplicas", "six"),
        "spec.maxReplicas",
    ),
    "cloudcoil-models-keda": (
        lambda: only(overlay("cuda-keda"), "ScaledObject"),
        "spec.minReplicas",
        ("spec.triggers.0.metadata.threshold", 4),
        "spec.scaleTargetRef.name",
    ),
    "cloudcoil-models-prometheus-operator": (
        lambda: only(overlay("cuda-keda"), "ServiceMonitor"),
        "spec.endpoints.0.targetport",
        ("spec.endpoints.0.interval", "15 seconds"),
        "spec.selector",
    ),
    "kserve, runtime": (
        lambda: only(build(DEPLOY / "kserve"), "ServingRuntime"),
        "spec.supportedModelFormat",
        ("spec.containers.0.ports.0.containerPort", "http1"),
        "spec.containers",
    ),
    "kserve, service": (
        lambda: only(build(DEPLOY / "kserve"), "InferenceService"),
        "spec.predictor.enableServiceLink",
        ("spec.predictor.maxReplicas", "4"),
        "spec.predictor.model.modelFormat",
    ),
    "gateway-api": (
        lambda: only(build(POOL), "HTTPRoute"),
        "spec.rules.0.timeout",
        ("spec.rules.0.matches.0.path.type", "Prefix"),
        "spec.rules.0.backendRefs.0.name",
    ),
    "by hand, pool": (
        lambda: only(build(POOL), "InferencePool"),
        "spec.extensionRef",
        ("spec.targetPorts.0.number", "8080"),
        "spec.endpointPickerRef.port",
    ),
    "by hand, picker": (
        lambda: yaml.safe_load((POOL / "epp-config.yaml").read_text()),
        "dataLayer.source",
        ("schedulingProfiles.0.plugins.0.weight", "2"),
        "plugins.0.type",
    ),
}


def parent(it, path):
    *steps, last = path.split(".")
    for step in steps:
        it = it[int(step)] if isinstance(it, list) else it[step]
    return it, last


@pytest.fixture(params=CASES)
def case(request):
    make, *rest = CASES[request.param]
    return copy.deepcopy(make()), *rest


def test_an_object_that_is_right_passes(case):
    validate(case[0])


def test_a_misspelt_field_is_refused(case):
    it, misspelt, _, _ = case
    inside, key = parent(it, misspelt)
    assert key not in inside
    inside[key] = {}
    with pytest.raises(jsonschema.ValidationError, match=key):
        validate(it)


def test_a_wrong_type_is_refused(case):
    it, _, (path, value), _ = case
    inside, key = parent(it, path)
    assert key in inside
    inside[key] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(it)


def test_a_missing_field_is_refused(case):
    it, _, _, required = case
    inside, key = parent(it, required)
    del inside[key]
    with pytest.raises(jsonschema.ValidationError):
        validate(it)


@pytest.mark.parametrize(
    ("field", "value"), [("port", 8080), ("address", "server.example.org"), ("adress", "192.0.2.1"), ("name", None)]
)
def test_an_endpoint_that_the_picker_would_not_take_is_refused(field, value):
    endpoints = yaml.safe_load((POOL / "files/endpoints.yaml").read_text())
    validator("endpoints").validate(endpoints)
    endpoints["endpoints"][0][field] = value
    with pytest.raises(jsonschema.ValidationError):
        validator("endpoints").validate(endpoints)
