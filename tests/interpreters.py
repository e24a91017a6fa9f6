"""The Python interpreters of this machine, and a virtual environment with Orlop for each."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.outside import outside

ROOT = Path(__file__).parents[1]
VENVS = ROOT / ".venv"
#: Prints an interpreter's version and path; fails where an environment or Orlop lacks a module.
_ASK = """
import ctypes, ensurepip, sqlite3, ssl, sys, venv
print("{}.{}".format(*sys.version_info), getattr(sys, "_base_executable", sys.executable))
"""
#: Where tools that install interpreters put them, beside the folders of PATH.
_FOLDERS = (
    "/usr/local/bin",
    "/usr/bin",
    "~/.local/share/uv/python/*/bin",
    "/opt/python*/bin",
)


def others() -> Mapping[str, str]:
    """Return found() without the version that runs this."""
    ours = "{}.{}".format(*sys.version_info)
    return {version: path for version, path in found().items() if version != ours}


def found() -> Mapping[str, str]:
    """Return supported versions of Python ("3.12"), and the first interpreter of each."""
    interpreters = {}
    for version in supported():
        answers = map(_answer, _candidates(version))
        path = next((path for answer, path in answers if answer == version), None)
        if path is not None:
            interpreters[version] = path
    return interpreters


def supported() -> list[str]:
    """Return the versions of Python that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = " ".join(project["classifiers"])
    return re.findall(r"Programming Language :: Python :: (3\.\d+)", names)


def environment(version: str, interpreter: str) -> Path:
    """Return the folder of programs of *version*'s environment, which is made if need be."""
    folder = VENVS / f"python{version}"
    made, wanted = folder / ".test", ROOT / "pyproject.toml"
    if folder.exists() and not (folder / "bin/python").exists():  # its interpreter was removed
        shutil.rmtree(folder)
    if not made.exists() or made.stat().st_mtime < wanted.stat().st_mtime:
        command = ["tools/make-venv", interpreter, str(folder), "-e", ".[dev]"]
        subprocess.run(outside(command), cwd=ROOT, env=variables(), check=True)
        made.touch()
    return folder / "bin"


def variables() -> dict[str, str]:
    """Return our environment variables without those that change what an interpreter does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYT")}
    return {name: value for name, value in kept.items() if name != "VIRTUAL_ENV"}


def _candidates(version: str) -> Iterator[str]:
    name = f"python{version}"
    folders = [*os.environ.get("PATH", "").split(os.pathsep), *_FOLDERS]
    if (pyenv := _pyenv()) is not None:
        folders.append(f"{pyenv}/versions/*/bin")
    for folder in folders:
        pattern = Path(folder, name).expanduser()
        yield from map(str, sorted(Path("/").glob(str(pattern)[1:]), reverse=True))


def _pyenv() -> str | None:
    try:
        asked = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return asked.stdout.strip()


def _answer(interpreter: str) -> tuple[str, str]:
    """Return an interpreter's version and true path; nothing if it cannot be used."""
    command = [interpreter, "-I", "-c", _ASK]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return "", ""
    version, _, path = asked.stdout.strip().partition(" ")
    return version, path
