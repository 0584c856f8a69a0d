"""Docker and Compose as a person uses them, by their commands."""

import contextlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "paligemma-check"
IMAGE = "paligemma-server:cpu"


def run(*command, check=True, env=None):
    """What `command` prints, on stdout and stderr together."""
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **(env or {})}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def docker(*arguments, check=True):
    return run("docker", *arguments, check=check)


def inspect(name):
    return json.loads(docker("inspect", name))[0]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(what, condition, seconds=60):
    """Waits until `condition()` gives something, and returns it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds} s")


class Compose:
    """docker-compose.yml as it stands, with ports of this machine alone."""

    def __init__(self, **variables):
        newer = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
        self.command = ["docker", "compose"] if newer else ["docker-compose"]
        self.command += ["--project-name", PROJECT]
        self.server, self.gateway, self.prometheus, grafana = [f"127.0.0.1:{free_port()}" for _ in range(4)]
        self.variables = {"PUBLISH": self.server, "GATEWAY_PUBLISH": self.gateway,
                          "PROMETHEUS_PUBLISH": self.prometheus, "GRAFANA_PUBLISH": grafana, **variables}

    def __call__(self, *arguments, check=True):
        return run(*self.command, *arguments, env=self.variables, check=check)

    def containers(self, service=None):
        """Names of the containers that are there, running or not."""
        filters = [f"label=com.docker.compose.project={PROJECT}"]
        filters += [f"label=com.docker.compose.service={service}"] if service else []
        arguments = [part for each in filters for part in ("--filter", each)]
        return docker("ps", "--all", *arguments, "--format", "{{.Names}}").split()

    def healthy(self, service="paligemma"):
        """Waits until each container of the service is healthy."""
        names = self.containers(service)
        assert names, f"{service} has no container"
        wait(f"{service} is healthy", lambda: all(health(name) == "healthy" for name in names))


def address(container):
    """Where a container's server is reached from the machine that the engine runs on."""
    network, = inspect(container)["NetworkSettings"]["Networks"].values()
    return f"{network['IPAddress']}:8080"


def throttle(containers, processors):
    for container in containers:
        docker("update", f"--cpus={processors}", container)


def health(container):
    return inspect(container)["State"]["Health"]["Status"]


@contextlib.contextmanager
def compose(**variables):
    """A project that leaves nothing behind but images."""
    project = Compose(**variables)
    clean(project)
    try:
        yield project
    except BaseException:
        print(project("logs", "--tail", "30", check=False))
        raise
    finally:
        clean(project)


def clean(project):
    everything = [part for name in ("cuda", "scale", "monitoring") for part in ("--profile", name)]
    project(*everything, "down", "--volumes", "--remove-orphans", "--timeout", "1", check=False)
