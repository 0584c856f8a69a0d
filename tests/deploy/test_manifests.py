"""What is in `deploy` for Kubernetes fits the schemas, the image, the settings, the contract and the documentation."""

import os
import re

import pytest
import yaml
from manifests import (
    COMPONENTS, DEPLOY, KUBERNETES, OVERLAYS, ROOT, SETTINGS, build, compose, only, overlay, pod_template, seconds,
    validate, validator, variables,
)  # fmt: skip

DOCKERFILE = (ROOT / "Dockerfile").read_text()
AUTOSCALERS = {"hpa", "keda"}

everything = pytest.mark.parametrize(
    "folder", [*(f"kubernetes/overlays/{name}" for name in OVERLAYS), "gateway", "kserve"]
)


@pytest.fixture(params=OVERLAYS)
def objects(request):
    return overlay(request.param)


def is_part(part, whole):
    return part.items() <= whole.items()


# ---- schemas


@everything
def test_every_object_fits_its_schema(folder):
    for it in build(DEPLOY / folder):
        validate(it)


def test_every_folder_is_checked():
    folders = {file.parent.relative_to(DEPLOY) for file in DEPLOY.rglob("kustomization.yaml")}
    known = {f"kubernetes/overlays/{name}" for name in OVERLAYS} | {"gateway", "kserve", "kubernetes/base"}
    assert {str(it) for it in folders} == known | {f"kubernetes/components/{name}" for name in COMPONENTS}


# overlays/cpu has an autoscaler already.
PAIRS = [(base, name) for base in ("cpu", "cuda") for name in COMPONENTS if base == "cuda" or name not in AUTOSCALERS]


@pytest.mark.parametrize(("base", "name"), PAIRS)
def test_every_component_fits_an_overlay(base, name, tmp_path):
    changed = [it for it in compose(tmp_path, base, [name]) if it not in overlay(base)]
    assert changed
    for it in changed:
        validate(it)


@pytest.mark.parametrize("base", ["cpu", "cuda"])
def test_components_go_together(base, tmp_path):
    objects = compose(tmp_path, base, [name for name in COMPONENTS if name not in AUTOSCALERS])
    for it in objects:
        validate(it)
    check_files(objects)
    check_hardening(pod_template(objects)["spec"])
    cache = next(it for it in pod_template(objects)["spec"]["volumes"] if it["name"] == "cache")
    assert cache == {"name": "cache", "persistentVolumeClaim": {"claimName": "paligemma-models"}}


# ---- the settings and the image


def runs(folder):
    """Containers of the server, with the objects among which they are."""
    objects = build(DEPLOY / folder)
    if folder == "kserve":
        return [(it, objects) for it in only(objects, "ServingRuntime")["spec"]["containers"]]
    return [] if folder == "gateway" else [(it, objects) for it in pod_template(objects)["spec"]["containers"]]


@everything
def test_every_variable_is_a_setting(folder):
    for container, objects in runs(folder):
        values = variables(objects, container)
        names = {name.removeprefix("PALIGEMMA_").lower() for name in values if name.startswith("PALIGEMMA_")}
        assert names, "the container has no settings"
        assert names <= SETTINGS.keys()


def test_the_variables_of_components_are_settings(tmp_path):
    objects = compose(tmp_path, "cuda", [name for name in COMPONENTS if name != "hpa"])
    (container,) = pod_template(objects)["spec"]["containers"]
    ours = {name.removeprefix("PALIGEMMA_").lower() for name in variables(objects, container) if "PALIGEMMA" in name}
    assert "api_key_file" in ours
    assert ours <= SETTINGS.keys()


@everything
def test_every_image_is_pinned(folder):
    for container, _ in runs(folder):
        name, tag = re.fullmatch(r"(.+):([^:/]+)", container["image"]).groups()
        assert name == "registry.example.org/paligemma-server"
        assert tag != "latest"
        assert tag.endswith("cuda" if "cuda" in folder else "cpu")


@everything
def test_the_port_is_the_servers(folder):
    (exposed,) = set(re.findall(r"^EXPOSE (\d+)", DOCKERFILE, re.MULTILINE))
    for container, _ in runs(folder):
        assert [it["containerPort"] for it in container["ports"]] == [int(exposed)] == [SETTINGS["port"]]


def test_the_cache_is_where_the_image_writes(objects):
    (written,) = set(re.findall(r"HF_HOME=(\S+)", DOCKERFILE))
    (container,) = pod_template(objects)["spec"]["containers"]
    mounts = {it["name"]: it["mountPath"] for it in container["volumeMounts"]}
    assert mounts["cache"] == written
    for value in variables(objects, container).values():
        assert not value.startswith("/") or any(value.startswith(path + "/") for path in mounts.values())


def check_files(objects):
    """Files that variables name are in volumes, and every volume is mounted."""
    spec = pod_template(objects)["spec"]
    (container,) = spec["containers"]
    mounts = {it["name"]: it["mountPath"] for it in container["volumeMounts"]}
    assert mounts.keys() == {it["name"] for it in spec["volumes"]}
    values = variables(objects, container)
    assert values["PALIGEMMA_API_KEY_FILE"].rpartition("/")[0] == mounts["api-keys"]
    assert values["HF_TOKEN_PATH"].rpartition("/")[0] == mounts["hub-token"]


# ---- hardening


def check_hardening(spec):
    (user,) = set(re.findall(r"^USER (\d+):\d+", DOCKERFILE, re.MULTILINE))
    pod = spec["securityContext"]
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    assert pod["fsGroup"] == int(user)
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    for container in spec["containers"]:
        own = container["securityContext"]
        assert {**pod, **own}["runAsNonRoot"] is True
        assert {**pod, **own}["runAsUser"] == int(user)
        assert {**pod, **own}["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own["readOnlyRootFilesystem"] is True
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def kserve_pod():
    """The Pod that KServe makes: fields of the service, with the runtime's containers."""
    objects = build(DEPLOY / "kserve")
    predictor = only(objects, "InferenceService")["spec"]["predictor"]
    return {**predictor, "containers": only(objects, "ServingRuntime")["spec"]["containers"]}


@pytest.fixture(params=[*OVERLAYS, "kserve"])
def pod(request):
    return kserve_pod() if request.param == "kserve" else pod_template(overlay(request.param))["spec"]


def test_pods_are_hardened(pod):
    check_hardening(pod)


# ---- start, health and stop


def test_the_grace_fits_the_drain(pod):
    flush = re.search(r"const FLUSH: Duration = Duration::from_secs\((\d+)\)", (ROOT / "src/server/mod.rs").read_text())
    (container,) = pod["containers"]
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    # The last answers and the traces are given this time one after the other.
    stops = seconds(SETTINGS["shutdown_grace"]) + 2 * int(flush[1])
    assert pod["terminationGracePeriodSeconds"] > waits + stops


def test_probes_ask_for_routes_of_the_contract(pod):
    routes = yaml.load((ROOT / "openapi.yaml").read_text(), yaml.CSafeLoader)["paths"]
    (container,) = pod["containers"]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert all("get" in routes[it["path"]] for it in probes.values())
    assert {it["port"] for it in probes.values()} <= {it["name"] for it in container["ports"]}
    assert probes["readinessProbe"]["path"] == "/health/ready"
    # One that turns 503 while the model loads would end the process in the middle of it.
    assert probes["livenessProbe"]["path"] == "/health/live"


def test_a_rollout_waits_for_a_download(objects):
    probe = pod_template(objects)["spec"]["containers"][0]["startupProbe"]
    start = probe["periodSeconds"] * probe["failureThreshold"]
    image = re.search(r"--start-period=(\w+)", DOCKERFILE)[1]
    assert start == seconds(image)
    assert only(objects, "Deployment")["spec"]["progressDeadlineSeconds"] > start


# ---- names that have to agree


def test_selectors_find_the_pods(objects):
    template = pod_template(objects)
    labels = template["metadata"]["labels"]
    selectors = [only(objects, kind)["spec"]["selector"] for kind in ("Deployment", "PodDisruptionBudget")]
    selectors += [it["labelSelector"] for it in template["spec"]["topologySpreadConstraints"]]
    selectors += [it["spec"]["podSelector"] for it in objects if it["kind"] == "NetworkPolicy"]
    assert all(is_part(it["matchLabels"], labels) for it in selectors)
    assert is_part(only(objects, "Service")["spec"]["selector"], labels)
    assert is_part(only(build(DEPLOY / "gateway"), "InferencePool")["spec"]["selector"]["matchLabels"], labels)


def test_ports_have_the_same_name(objects):
    (container,) = pod_template(objects)["spec"]["containers"]
    names = {it["name"] for it in container["ports"]}
    assert {it["targetPort"] for it in only(objects, "Service")["spec"]["ports"]} <= names
    policies = [it["spec"] for it in objects if it["kind"] == "NetworkPolicy"]
    assert {port["port"] for it in policies for rule in it["ingress"] for port in rule["ports"]} <= names


def test_prometheus_finds_the_service():
    objects = overlay("cuda-keda")
    service, monitor = only(objects, "Service"), only(objects, "ServiceMonitor")["spec"]
    assert is_part(monitor["selector"]["matchLabels"], service["metadata"]["labels"])
    assert {it["port"] for it in monitor["endpoints"]} <= {it["name"] for it in service["spec"]["ports"]}
    # The alerts and the trigger name the job, which the operator calls after the Service.
    trigger = only(objects, "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    assert f'job="{service["metadata"]["name"]}"' in trigger
    assert f'job="{service["metadata"]["name"]}"' in (DEPLOY / "prometheus/alerts.yml").read_text()


def test_one_autoscaler_at_most_and_no_fixed_replicas(objects):
    deployment = only(objects, "Deployment")
    scalers = [it for it in objects if it["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]
    assert len(scalers) <= 1
    assert "replicas" not in deployment["spec"]
    for it in scalers:
        target = it["spec"]["scaleTargetRef"]
        assert (target.get("kind", "Deployment"), target["name"]) == ("Deployment", deployment["metadata"]["name"])


def test_cpu_is_scaled_by_cpu_and_gpus_by_what_waits():
    kinds = {name: {it["kind"] for it in overlay(name)} for name in OVERLAYS}
    assert "HorizontalPodAutoscaler" in kinds["cpu"]
    assert "ScaledObject" in kinds["cuda-keda"]
    limits = pod_template(overlay("cpu"))["spec"]["containers"][0]["resources"]["limits"]
    assert "cpu" in limits, "without it, the server computes on as many threads as the node has cores"


# ---- metrics


def documented_metrics():
    text = (ROOT / "docs/monitoring.md").read_text()
    return set(re.findall(r"`((?:paligemma_|vllm:|gen_ai_|process_)\w+)`", text))


def named_metrics(query):
    return {re.sub(r"_(bucket|sum|count)$", "", it) for it in re.findall(r"\b(?:paligemma_|vllm:|process_)\w+", query)}


def test_queries_name_metrics_that_are_documented():
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    queries = [rule["expr"] for group in rules for rule in group["rules"] if rule["alert"] != "PaligemmaDown"]
    queries += [it["metadata"]["query"] for it in only(overlay("cuda-keda"), "ScaledObject")["spec"]["triggers"]]
    for query in queries:
        assert named_metrics(query), query
        assert named_metrics(query) <= documented_metrics()


# ---- the gateway


@pytest.fixture(params=["epp-config.yaml", "files/epp-config.yaml"])
def picker(request):
    return yaml.safe_load((DEPLOY / "gateway" / request.param).read_text())


def plugin(config, kind):
    return next(it["parameters"] for it in config["plugins"] if it["type"] == kind)


def references(it):
    if isinstance(it, list):
        return [name for item in it for name in references(item)]
    if isinstance(it, dict):
        return [name for key, value in it.items() for name in ([value] if key == "pluginRef" else references(value))]
    return []


def test_the_pickers_configuration_fits_its_schema(picker):
    validate(picker)


def test_plugins_are_declared_and_used(picker):
    declared = [it["type"] for it in picker["plugins"]]
    assert len(set(declared)) == len(declared)
    # These work without being named elsewhere.
    assert set(references(picker)) == set(declared) - {"single-profile-handler", "mm-embeddings-cache-producer"}


def test_the_picker_reads_metrics_that_are_documented(picker):
    (engine,) = plugin(picker, "core-metrics-extractor")["engineConfigs"]
    assert set(engine.values()) - {engine["name"]} <= documented_metrics()
    assert "vllm:num_requests_waiting" in engine.values()


def test_the_picker_knows_the_servers_by_their_label(picker):
    (engine,) = plugin(picker, "core-metrics-extractor")["engineConfigs"]
    endpoints = yaml.safe_load((DEPLOY / "gateway/files/endpoints.yaml").read_text())
    validator("endpoints").validate(endpoints)
    labels = [it["labels"] for it in endpoints["endpoints"]]
    labels += [pod_template(overlay(name))["metadata"]["labels"] for name in OVERLAYS]
    assert {it["llm-d.ai/engine-type"] for it in labels} == {engine["name"]}


def test_the_picker_remembers_as_many_images_as_a_server(picker):
    number, unit = re.fullmatch(r"(\d+)(MB)", SETTINGS["image_cache"]).groups()
    size = int(number) * {"MB": 10**6}[unit]
    assert plugin(picker, "mm-embeddings-cache-producer")["cacheSizeInMBPerServer"] == size // 2**20


def test_native_routes_pass_and_come_last(picker):
    parsers = [it["pluginRef"] for it in picker["requestHandler"]["parsers"]]
    assert parsers == ["openai-parser", "passthrough-parser"]
    assert plugin(picker, "session-affinity-scorer")["sessionIdConfig"]["sources"] == [{"header": "x-image-key"}]


def test_both_configurations_are_alike_but_for_discovery():
    with_pool, with_file = (
        yaml.safe_load((DEPLOY / "gateway" / name).read_text()) for name in ("epp-config.yaml", "files/epp-config.yaml")
    )
    assert with_file["dataLayer"].pop("discovery") == {"pluginRef": "file-discovery"}
    with_file["plugins"] = [it for it in with_file["plugins"] if it["type"] != "file-discovery"]
    assert with_file == with_pool


def test_the_route_leads_to_the_pool_and_the_pool_to_the_servers():
    objects = build(DEPLOY / "gateway")
    route, pool = only(objects, "HTTPRoute")["spec"], only(objects, "InferencePool")
    group = pool["apiVersion"].partition("/")[0]
    backends = [it for rule in route["rules"] for it in rule["backendRefs"]]
    assert backends == [{"group": group, "kind": "InferencePool", "name": pool["metadata"]["name"]}]
    ports = pod_template(overlay("cpu"))["spec"]["containers"][0]["ports"]
    assert [it["number"] for it in pool["spec"]["targetPorts"]] == [it["containerPort"] for it in ports]
    # The picker's configuration and its Service have one name.
    assert only(objects, "ConfigMap")["metadata"]["name"] == pool["spec"]["endpointPickerRef"]["name"]


def test_the_route_gives_a_request_its_time_and_hides_the_metrics():
    route = only(build(DEPLOY / "gateway"), "HTTPRoute")["spec"]
    for rule in route["rules"]:
        assert seconds(rule["timeouts"]["request"]) > seconds(SETTINGS["request_timeout"])
        assert [it["path"] for it in rule["matches"]] == [{"type": "PathPrefix", "value": "/v1"}]


# ---- KServe


def test_kserve_serves_what_it_mounts_under_the_services_name():
    objects = build(DEPLOY / "kserve")
    runtime, service = only(objects, "ServingRuntime")["spec"], only(objects, "InferenceService")
    values = variables(objects, runtime["containers"][0])
    assert values["PALIGEMMA_MODEL"] == "/mnt/models"
    assert values["PALIGEMMA_SERVED_MODEL_NAME"] == "{{.Name}}"
    assert values["PALIGEMMA_KSERVE_ROUTES"] == "true"
    assert runtime["containers"][0]["name"] == "kserve-container"
    formats = {it["name"] for it in runtime["supportedModelFormats"] if it["autoSelect"]}
    assert service["spec"]["predictor"]["model"]["modelFormat"]["name"] in formats
    assert service["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "Standard"}


# ---- the documentation


def test_the_documentation_names_every_part():
    text = (ROOT / "docs/kubernetes.md").read_text()
    parts = {f"overlays/{name}" for name in OVERLAYS} | {f"components/{name}" for name in COMPONENTS}
    assert {part for part in parts if f"`{part}`" not in text} == set()


def test_the_overlay_in_the_documentation_builds(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/kubernetes.md").read_text(), re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(block.replace("../..", os.path.relpath(ROOT, tmp_path)))
    objects = build(tmp_path)
    for it in objects:
        validate(it)
    check_files(objects)
    (container,) = pod_template(objects)["spec"]["containers"]
    assert variables(objects, container)["PALIGEMMA_SLOTS"] == "16"
    assert {it["metadata"]["namespace"] for it in objects} == {"vision"}


def test_the_documentation_names_no_part_that_is_missing():
    text = (ROOT / "docs/kubernetes.md").read_text() + (DEPLOY / "gateway/README.md").read_text()
    named = set(re.findall(r"\b(?:deploy/kubernetes/)?((?:overlays|components)/[\w-]+)", text))
    assert all((KUBERNETES / name).is_dir() for name in named)
