"""Collect the code of every module that `orlop-runtime` may need into one file, with an index.

These are all rooms below the program, and all imports of its commands. sealed_start.py reads
the file.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib.machinery import SourceFileLoader

import orlop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    #: Name: file, its time in ns and size, folders if a package, and the code's offset and length.
    Index = dict[str, tuple[str, int, int, list[str] | None, int, int]]

_START = "orlop.programs.oci.sealed_start"
_START_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sealed_start.py")
_ROOMS = ("kernel", "lifecycle", "model", "programs/oci", "runtime")


def gathered() -> tuple[Index, bytes]:
    """Return the index of the modules' code, and the code."""
    index: Index = {}
    blob = b""
    for name, loader in sorted(_loaders().items()):
        status = os.stat(loader.path)
        text = loader.get_data(loader.path)
        # Without docstrings: every process would have its own copy in memory.
        data = marshal.dumps(compile(text, loader.path, "exec", dont_inherit=True, optimize=2))
        folders = [os.path.dirname(loader.path)] if loader.is_package(name) else None
        where = (len(blob), len(data))
        index[name] = (loader.path, status.st_mtime_ns, status.st_size, folders, *where)
        blob += data
    return index, blob


def beginning(*arguments: Any) -> bytes:
    """Return the code that runs first: begin(), and its arguments."""
    code: Any = SourceFileLoader(_START, _START_FILE).get_code(_START)
    return marshal.dumps((code, arguments))


def _loaders() -> dict[str, SourceFileLoader]:
    files = dict(_files())
    for name in files:
        if name.startswith(__package__):
            __import__(name)
    found = {}
    for name, module in list(sys.modules.items()):
        # Before Python 3.13 typing.io and typing.re are there, classes without a specification.
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if type(loader) is SourceFileLoader and name != "__main__":
            found[name] = loader
    for name, path in files.items():
        found.setdefault(name, SourceFileLoader(name, path))
    return found


def _files() -> Iterator[tuple[str, str]]:
    package = os.path.dirname(os.path.abspath(orlop.__file__))
    for room in _ROOMS:
        for folder, _, files in os.walk(os.path.join(package, room)):
            parent = os.path.relpath(folder, os.path.dirname(package)).replace(os.sep, ".")
            for file in files:
                stem, extension = os.path.splitext(file)
                if extension == ".py":
                    name = parent if stem == "__init__" else f"{parent}.{stem}"
                    yield name, os.path.join(folder, file)
