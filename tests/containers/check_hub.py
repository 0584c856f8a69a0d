"""A gated checkpoint of the hub, which is a container here: token, download, cache, offline use."""

import contextlib
import tempfile
from pathlib import Path

from client import TRUE_CAPTION, caption, get
from engine import IMAGE, PROJECT, ROOT, compose, docker, wait

TOKEN = "hf_onlyTheCheckKnowsThis"
HUB = f"{PROJECT}-hub"
FROM_HUB = {"PALIGEMMA_MODEL": "acme/demo", "HF_ENDPOINT": "http://hub", "PALIGEMMA_LOG_LEVEL": "trace"}


def token_as_a_secret():
    """Downloads with the token of a file, keeps the model, and serves it offline after that."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder, "token")
        file.write_text(TOKEN + "\n")
        with project_with_hub(HF_TOKEN_FILE=str(file)) as project:
            served(project)
            container, = project.containers()
            assert TOKEN not in docker("inspect", container), "the token is in the container's description"
            secret(container)
            docker("rm", "--force", HUB)
            project.variables |= {"HF_TOKEN_FILE": "./deploy/no-token", "HF_HUB_OFFLINE": "1"}
            project("up", "--detach", "--force-recreate")
            served(project)


def token_in_the_environment():
    with project_with_hub(HF_TOKEN=TOKEN) as project:
        served(project)
        secret(*project.containers())


def no_token():
    """Without the token the start fails, and says why."""
    with project_with_hub() as project:
        container, = project.containers()
        wait("it says why", lambda: "no token was given" in docker("logs", container))


def served(project):
    project.healthy()
    name = get(project.server, "/v1/models").json()["data"][0]["id"]
    assert name == "acme/demo", name
    said = caption(project.server)
    assert said == TRUE_CAPTION, said


def secret(container):
    assert "trace" in docker("logs", container).lower(), "the log says less than it should"
    assert TOKEN not in docker("logs", container), "the token is in the log"


def no_token_in_the_image():
    """The image is built with the token in the environment (see run), and has it nowhere."""
    with tempfile.TemporaryDirectory() as folder:
        docker("save", "--output", f"{folder}/image.tar", IMAGE)
        saved = Path(folder, "image.tar").read_bytes()
    assert b"paligemma-server" in saved, "layers are compressed: nothing can be seen in them"
    assert TOKEN.encode() not in saved, "the token is in the image"
    assert TOKEN not in docker("history", "--no-trunc", IMAGE)


@contextlib.contextmanager
def project_with_hub(**variables):
    with compose(**FROM_HUB, **variables) as project:
        try:
            project("up", "--no-start")
            docker("run", "--detach", "--name", HUB, "--network", f"{PROJECT}_default", "--network-alias", "hub",
                   "--volume", f"{ROOT}/models/demo:/demo:ro",
                   "--volume", f"{ROOT}/tests/containers/hub.conf:/etc/nginx/nginx.conf:ro",
                   "--entrypoint", "nginx", "nginx:1.28-alpine", "-g", "daemon off;")
            project("up", "--detach")
            yield project
        finally:
            docker("rm", "--force", "--volumes", HUB, check=False)


CHECKS = [token_as_a_secret, token_in_the_environment, no_token, no_token_in_the_image]
