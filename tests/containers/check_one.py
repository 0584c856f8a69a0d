"""One server: `docker compose up`, as it is and with a checkpoint of one's own."""

import shutil
import tempfile
import threading
from pathlib import Path

from client import TRUE_CAPTION, caption, events, generate, get
from engine import ROOT, compose, docker, health, inspect, throttle, wait


def up():
    """Starts the demo alone, which answers, and runs with as few rights as it may."""
    with compose() as project:
        project("up", "--detach")
        container, = project.containers()
        assert health(container) == "starting", health(container)
        project.healthy()
        said = caption(project.server)
        assert said == TRUE_CAPTION, said
        host = inspect(container)["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"], host
        users = set(docker("top", container, "-eo", "pid,uid").split()[3::2])
        assert users == {"65532"}, users
        return f'"{said}"'


def health_turns_red_and_green():
    with compose() as project:
        project("up", "--detach")
        container, = project.containers()
        project.healthy()
        docker("kill", "--signal", "STOP", container)
        wait("unhealthy while it is frozen", lambda: health(container) == "unhealthy", 90)
        said = inspect(container)["State"]["Health"]["Log"][-1]["Output"]
        assert "no answer from http://127.0.0.1:8080/health/ready" in said, said
        docker("kill", "--signal", "CONT", container)
        wait("healthy again", lambda: health(container) == "healthy")
        return said.strip()


def sigterm_in_mid_stream():
    """`docker compose stop` lets a stream complete, and ends with 0."""
    with compose() as project:
        project("up", "--detach")
        container, = project.containers()
        project.healthy()
        throttle([container], 0.1)
        stream = events(generate(project.server, stream=True))
        next(stream)
        stop = threading.Thread(target=project, args=("stop",))
        stop.start()
        wait("it drains", lambda: "SIGTERM" in docker("logs", container))
        names = [name for _, name, _ in stream]
        stop.join()
        assert names[-2:] == ["result", "done"], names[-3:]
        assert names.count("delta") > 5, f"only {len(names)} events after SIGTERM"
        state = inspect(container)["State"]
        assert state["ExitCode"] == 0 and not state["OOMKilled"], state
        return f"{len(names)} events came after SIGTERM, exit code 0"


def mounted_checkpoint():
    """A checkpoint and an adapter in a mounted folder."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(ROOT / "models/demo", f"{folder}/my-fine-tune")
        shutil.copytree(ROOT / "models/demo-counting", f"{folder}/counting")
        adapter = "counting=/models/counting"
        with compose(MODELS_DIR=folder, PALIGEMMA_MODEL="/models/my-fine-tune", PALIGEMMA_ADAPTER=adapter) as project:
            project("up", "--detach")
            project.healthy()
            served = get(project.server, "/v1/models").json()["data"][0]["id"]
            assert served == "my-fine-tune", served
            said = caption(project.server)
            assert said == TRUE_CAPTION, said
            counted = generate(project.server, prompt="cap en", model="counting").json()["results"][0]["text"]
            assert counted == "1 circle, 1 square", counted
            return f'"{said}", and with an adapter "{counted}"'


CHECKS = [up, health_turns_red_and_green, sigterm_in_mid_stream, mounted_checkpoint]
