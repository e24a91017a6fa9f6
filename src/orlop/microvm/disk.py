"""The disks of a machine.

An image is one EROFS with its whole root, made once and read by all its machines. What a container
writes is an ext4 of its own in a sparse file. A hostile guest has written that, so no kernel of a
host ever mounts it.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO

from orlop.errors import InvalidArgumentError, UnsupportedError

_NOBODY = 65534
DEFAULT_BYTES = 10 << 30
LEAST_BYTES = 16 << 20


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


def make_writes(path: str, size_bytes: int, *, user: int) -> None:
    """Make an empty disk for what a container writes, unless it is there; *user* owns it.

    Raises UnsupportedError if mkfs.ext4 is missing or fails, InvalidArgumentError if it is small.
    """
    if os.path.exists(path):
        return
    if size_bytes < LEAST_BYTES:
        raise InvalidArgumentError(
            f"a virtual machine's disk of {size_bytes} bytes is too small",
            hint=f"at least {LEAST_BYTES >> 20} MiB",
        )
    program = shutil.which("mkfs.ext4", path=f"{os.defpath}:/usr/sbin:/sbin")
    if program is None:
        raise UnsupportedError("mkfs.ext4 is not installed", hint="install e2fsprogs")
    staged = f"{path}.new"
    with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.truncate(size_bytes)
    words = [program, "-q", "-F", "-m", "0", "-J", "size=4", "-E", "nodiscard", staged]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        os.unlink(staged)
        raise UnsupportedError(f"mkfs.ext4 failed: {_last_line(done.stderr, done.returncode)}")
    os.chown(staged, user, user)
    os.rename(staged, path)


def _last_line(said: bytes, code: int) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {code}"


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
        why = _last_line(said.read(), process.returncode)
    if process.returncode != 0:
        raise UnsupportedError(f"mkfs.erofs failed: {why}")
