"""The disk of an image: its whole root as one EROFS, made once and read by all its machines."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO

from orlop.errors import UnsupportedError

_NOBODY = 65534


def image_disk(root: str, layers: Sequence[str], write_tar: Callable[[IO[bytes]], None]) -> str:
    """Return the disk with *layers* below *root*; if it is not there, *write_tar* gives its files.

    Contents and names are hostile, so mkfs.erofs runs as nobody. Raises UnsupportedError if it is
    missing or fails; nothing is left then.
    """
    folder = f"{root}/microvm/disks"
    os.makedirs(folder, 0o700, exist_ok=True)
    name = hashlib.sha256("\n".join(layers).encode()).hexdigest()
    target = f"{folder}/{name}.erofs"
    if not os.path.exists(target):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as staged:
            made = f"{staged}/disk"
            _make(made, write_tar)
            os.chmod(made, 0o444)
            os.rename(made, target)
    return target


def _make(path: str, write_tar: Callable[[IO[bytes]], None]) -> None:
    program = shutil.which("mkfs.erofs")
    if program is None:
        raise UnsupportedError("mkfs.erofs is not installed", hint="install erofs-utils")
    with open(path, "xb", buffering=0) as file, tempfile.TemporaryFile() as said:
        os.fchown(file.fileno(), _NOBODY, _NOBODY)
        process = subprocess.Popen(
            [program, "--quiet", "--tar=f", f"/proc/self/fd/{file.fileno()}"],
            pass_fds=(file.fileno(),),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            user=_NOBODY,
            group=_NOBODY,
            extra_groups=[],
            cwd="/",
            env={},
        )
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError), process.stdin as tar:  # it says why it has ended
                write_tar(tar)
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
        os.fchown(file.fileno(), 0, 0)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    if process.returncode != 0:
        raise UnsupportedError(f"mkfs.erofs failed: {lines[-1] if lines else process.returncode}")
