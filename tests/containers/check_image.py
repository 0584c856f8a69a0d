"""The CPU image and the compose file, before anything runs."""

import re
import tarfile
import tempfile
import tomllib

from engine import IMAGE, ROOT, docker, inspect

MOST_MEGABYTES = 120


def image():
    described = inspect(IMAGE)
    megabytes = described["Size"] / 1e6
    assert megabytes <= MOST_MEGABYTES, f"{IMAGE} has {megabytes:.1f} MB"
    config = described["Config"]
    assert config["User"] == "65532:65532", config["User"]
    assert config["StopSignal"] == "SIGTERM", config["StopSignal"]
    assert config["Healthcheck"]["Test"] == ["CMD", "paligemma-server", "health"], config["Healthcheck"]
    assert list(config["Volumes"]) == ["/cache"], config["Volumes"]
    missing = [name for name in ("title", "description", "licenses", "version", "revision")
               if not config["Labels"].get(f"org.opencontainers.image.{name}")]
    assert not missing, f"labels missing: {missing}"
    present = files()
    share = {"bash-completion/completions/paligemma-server", "man/man1/paligemma-server-serve.1"}
    lost = share - {name.removeprefix("usr/local/share/") for name in present}
    assert not lost, f"files missing: {lost}"
    shells = [name for name in present if re.fullmatch(r"(usr/)?bin/((ba|da)?sh|busybox)", name)]
    assert not shells, shells
    return f"{megabytes:.1f} MB"


def files():
    container = docker("create", IMAGE).strip()
    try:
        with tempfile.TemporaryDirectory() as folder:
            docker("export", "--output", f"{folder}/files.tar", container)
            with tarfile.open(f"{folder}/files.tar") as exported:
                return exported.getnames()
    finally:
        docker("rm", "--volumes", container)


def settings_reach_the_server():
    text = (ROOT / "docker-compose.yml").read_text()
    given = set(re.findall(r"^    - PALIGEMMA_(\w+)$", text, re.M))
    known = {key.upper() for key in tomllib.loads((ROOT / "config/default.toml").read_text())}
    # Where it listens, and on which device, is the image's business.
    missing = known - {"HOST", "PORT", "DEVICE"} - given
    assert not missing and given <= known, f"missing: {missing}, unknown: {given - known}"


CHECKS = [image, settings_reach_the_server]
