"""What a measurement needs beforehand: the packages, the binaries, a checkpoint."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / "target/bench-venv"
PACKAGES = Path(__file__).with_name("requirements.txt")
# Packages that have another name in an import statement.
MODULES = {"pillow": "PIL"}


def use_packages(args):
    """Goes on in a Python that has the packages: this one, the one that `--python` names, or a venv made for it."""
    packages = {line.split("==")[0]: line for line in PACKAGES.read_text().split()}
    unused = set() if args.write_docs else {"matplotlib"}
    if args.earlier or not args.reference:
        unused |= {"torch", "transformers", "tokenizers"}
    missing = [
        package
        for name, package in packages.items()
        if name not in unused and importlib.util.find_spec(MODULES.get(name, name)) is None
    ]
    if not missing:
        return
    if Path(sys.prefix) == VENV:
        print(f"installing {' '.join(missing)} into {VENV}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True)
        importlib.invalidate_caches()
        return
    if args.python and Path(sys.executable) == Path(args.python):
        raise SystemExit(f"{args.python} lacks {', '.join(missing)}: install them, or leave --python out")
    if not args.python and not VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    python = args.python or str(VENV / "bin/python")
    os.execv(python, [python, *sys.argv])


def binary(given):
    """The server to measure: the given one, or this working tree's, built now."""
    if given:
        return given
    cargo("build", "--release", "--locked")
    return str(ROOT / "target/release/paligemma-server")


def built_example(name):
    cargo("build", "--release", "--locked", "--example", name)
    return str(ROOT / "target/release/examples" / name)


def checkpoint(given, shape):
    """The given checkpoint, or one with random weights of this shape, made the first time."""
    if given:
        return given
    folder = ROOT / "target/bench" / shape
    if not folder.exists():
        unfinished = folder.with_name(f"{shape}.unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        program = built_example("random_checkpoint")
        subprocess.run([program, "--shape", shape, "--out", unfinished], check=True)
        unfinished.rename(folder)
    return str(folder)


def cargo(*arguments):
    subprocess.run(["cargo", *arguments], cwd=ROOT, check=True)


def commit():
    """The working tree's commit, with a + when files differ from it."""
    command = ["git", "-C", ROOT, "describe", "--always", "--exclude=*", "--abbrev=9", "--dirty=+"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
