"""The CUDA image on a machine without a GPU: it starts, and says what is wrong."""

import subprocess
import tempfile
from pathlib import Path

from engine import docker, inspect, wait

IMAGE = "paligemma-server:cuda"
# As much of a driver as says its version: CUDA 12.4.
OLD_DRIVER = """
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
"""


def cuda_without_a_driver():
    assert "paligemma-server" in docker("run", "--rm", IMAGE, "--version")
    assert "libcuda.so" not in needed(), f"the loader wants the driver: {needed()}"
    said = refused()
    assert "there is no NVIDIA driver here; a container needs --gpus all" in said, said
    return f"{inspect(IMAGE)['Size'] / 1e6:.0f} MB; {said}"


def cuda_with_an_old_driver():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "driver.c").write_text(OLD_DRIVER)
        library = f"{folder}/libcuda.so.1"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, f"{folder}/driver.c"], check=True)
        Path(folder).chmod(0o755)
        said = refused("--volume", f"{library}:/usr/lib/x86_64-linux-gnu/libcuda.so.1:ro")
    assert "it speaks CUDA 12.4, and this binary needs 13.0; install driver 580 or newer" in said, said
    return said


def cuda_on_the_cpu():
    """`auto` serves on the CPU and warns: what the image itself never does."""
    container = docker("run", "--detach", "--read-only", "--env", "PALIGEMMA_DEVICE=auto", IMAGE).strip()
    try:
        wait("healthy", lambda: inspect(container)["State"]["Health"]["Status"] == "healthy")
        assert "the model runs on the CPU" in docker("logs", container)
    finally:
        docker("rm", "--force", "--volumes", container)


def refused(*arguments):
    """What the server says when it refuses to start; the exit code is that of a wrong setting."""
    done = subprocess.run(["docker", "run", "--rm", "--read-only", *arguments, IMAGE], text=True, capture_output=True)
    assert done.returncode == 2, f"{done.returncode}: {done.stderr}"
    return done.stderr.strip()


def needed():
    """The libraries that the dynamic loader wants before the binary starts."""
    container = docker("create", IMAGE).strip()
    try:
        with tempfile.TemporaryDirectory() as folder:
            docker("cp", f"{container}:/usr/local/bin/paligemma-server", folder)
            read = subprocess.run(["readelf", "--dynamic", f"{folder}/paligemma-server"], text=True,
                                  capture_output=True, check=True)
            return "\n".join(line for line in read.stdout.splitlines() if "NEEDED" in line)
    finally:
        docker("rm", "--volumes", container)


CHECKS = [cuda_without_a_driver, cuda_with_an_old_driver, cuda_on_the_cpu]
