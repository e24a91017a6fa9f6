"""Writable snapshots with a size limit: `disk.ext4` in their folder, a file system of its own.

The file is sparse, so it takes as much as is written to it. The kernel enforces the limit,
whoever writes. It is mounted like an image's layers: detached, until the last container or
reader is gone.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.mount import Mount
from orlop.snapshots.view import open_root

LEAST_BYTES = 4 << 20
_LARGE_BYTES = 512 << 20
_FILE = "disk.ext4"


def make(path: str, size_bytes: int) -> None:
    """Make the file system of the snapshot in the folder *path*.

    Raises:
        InvalidArgumentError: the size is too small.
        UnsupportedError: mkfs.ext4 is missing, or it fails.
    """
    if size_bytes < LEAST_BYTES:
        raise InvalidArgumentError(
            f"invalid size {size_bytes} of a container's disk",
            hint=f"at least {LEAST_BYTES >> 20} MiB",
        )
    program = shutil.which("mkfs.ext4", path=f"{os.defpath}:/usr/sbin:/sbin")
    if program is None:
        raise UnsupportedError("mkfs.ext4 is not installed", hint="install e2fsprogs")
    image = f"{path}/{_FILE}"
    with open(os.open(image, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.truncate(size_bytes)
    done = subprocess.run(
        [program, "-q", "-F", "-m", "0", *_journal(size_bytes), image],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={},
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise UnsupportedError(f"mkfs.ext4 failed: {said[-1] if said else done.returncode}")
    with place(path) as folder:
        for name in ("fs", "work"):
            os.mkdir(f"{folder}/{name}", 0o700)


def _journal(size_bytes: int) -> list[str]:
    """Return options that keep the journal of a large one small: its space is taken at once."""
    return ["-J", "size=8"] if size_bytes >= _LARGE_BYTES else []


def is_sized(path: str) -> bool:
    """Whether the snapshot in the folder *path* has a size limit."""
    return os.path.exists(f"{path}/{_FILE}")


def mount(path: str) -> Mount:
    """Return the detached mount of its file system, for a list of mounts."""
    return Mount("ext4", f"{path}/{_FILE}", "", ("discard",))


@contextmanager
def place(path: str) -> Iterator[str]:
    """Yield the folder with the snapshot's writes, mounted if it has a size limit."""
    if not is_sized(path):
        yield path
        return
    folder = open_root([mount(path)._replace(target="/")])
    try:
        yield f"/proc/self/fd/{folder}"
    finally:
        os.close(folder)
