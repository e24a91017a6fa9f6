"""Overlay on layers that are mounted without unpacking: the tar, with an EROFS index.

    layers/sha256-…/layer.tar     the layer, rewritten so that every reader understands it alike
    layers/sha256-…/layer.erofs   its index, made by mkfs.erofs(1)

The kernel reads the index and finds the data in the tar (device=), both plain files: no
loop devices. Needs Linux 6.13 (6.12 for EROFS on files, 6.13 for overlay's layers by
descriptor) and erofs-utils 1.8. A layer whose tar is not plain (layers/normal.py) is
unpacked to a folder instead; both kinds can be mixed.
"""

import io
import logging
import os
import shutil
import subprocess
from contextlib import ExitStack, suppress

from orlop.errors import UnsupportedError
from orlop.layers.apply import Applied
from orlop.layers.budget import Budget
from orlop.layers.header import FILE, FOLDER, Entry
from orlop.layers.normal import Normal
from orlop.layers.tar import Stream
from orlop.layers.write import TarWriter
from orlop.model.mount import Mount
from orlop.snapshots.interface import LayerKey
from orlop.snapshots.overlay import Overlay
from orlop.snapshots.shelf import Shelf
from orlop.snapshots.unpacked import opened
from orlop.snapshots.view import open_root

log = logging.getLogger(__name__)

_TAR, _INDEX = "layer.tar", "layer.erofs"
_NOBODY = 65534
_BUFFER = 1 << 20


class Erofs(Overlay):
    """The driver `erofs`."""

    name = "erofs"

    @classmethod
    def probe(cls, root: str) -> None:
        """Index and mount a small layer under an overlay; UnsupportedError if that fails."""
        with Shelf(root).staging() as folder:
            sample = io.BytesIO()
            writer = TarWriter(sample)
            writer.add(Entry(b"folder/", FOLDER, 0o755, 0, 0, 0, 0, 0, b"", 0, 0))
            writer.add(Entry(b"folder/file", FILE, 0o644, 0, 0, 3, 3, 0, b"", 0, 0), [b"abc"])
            writer.close()
            with open(f"{folder}/{_TAR}", "wb") as file:
                file.write(sample.getvalue())
            index(folder)
            os.mkdir(f"{folder}/lower")
            lowers = ("lowerdir+=mount:0", f"lowerdir+={folder}/lower")
            view = open_root([_mount(folder), Mount("overlay", "overlay", "/", lowers)])
            try:
                if os.stat("folder/file", dir_fd=view).st_size != len(b"abc"):
                    raise UnsupportedError("EROFS does not find the data of a tar")
            finally:
                os.close(view)

    def _fill(self, staged: str, tar: Stream, budget: Budget) -> tuple[Applied, int]:
        with open(f"{staged}/{_TAR}", "wb", buffering=_BUFFER) as file:
            normal = Normal(tar, file, budget)
            plain = normal.run()
        if plain and _indexed(staged):
            return normal.applied(), _size(staged)
        os.mkdir(f"{staged}/fs", 0o755)
        with open(f"{staged}/{_TAR}", "rb") as written, opened(f"{staged}/fs") as root:
            os.fchmod(root, 0o755)
            applied = normal.unpack(written, root)
        os.unlink(f"{staged}/{_TAR}")
        return applied, applied.file_bytes

    def _lower(self, key: LayerKey, before: list[Mount]) -> str:
        path = self._shelf.layer_path(key)
        if not self._is_indexed(path):
            return super()._lower(key, before)
        before.append(_mount(path))
        return f"mount:{len(before) - 1}"

    def _open_layer(self, key: LayerKey) -> int:
        path = self._shelf.layer_path(key)
        if not self._is_indexed(path):
            return super()._open_layer(key)
        return open_root([_mount(path)])

    @staticmethod
    def _is_indexed(path: str) -> bool:
        return os.path.exists(f"{path}/{_INDEX}")


def index(folder: str) -> None:
    """Make the index of the tar in *folder*; UnsupportedError if mkfs.erofs is missing or fails.

    Contents and names are untrusted, so mkfs.erofs runs as nobody, with access only to the
    two files, which it gets open.
    """
    program = shutil.which("mkfs.erofs")
    if program is None:
        raise UnsupportedError("mkfs.erofs is not installed", hint="install erofs-utils")
    with ExitStack() as stack:
        source = stack.enter_context(open(f"{folder}/{_TAR}", "rb", buffering=0))
        target = stack.enter_context(open(f"{folder}/{_INDEX}", "xb", buffering=0))
        os.fchown(target.fileno(), _NOBODY, _NOBODY)
        result = subprocess.run(
            [program, "--quiet", "--tar=i", "--aufs", f"/proc/self/fd/{target.fileno()}"],
            pass_fds=(target.fileno(),),
            stdin=source,
            capture_output=True,
            user=_NOBODY,
            group=_NOBODY,
            extra_groups=[],
            cwd="/",
            env={},
            check=False,
        )
        os.fchown(target.fileno(), 0, 0)
    if result.returncode != 0:
        said = result.stderr.decode(errors="replace").strip().splitlines()
        raise UnsupportedError(f"mkfs.erofs failed: {said[-1] if said else result.returncode}")


def _indexed(folder: str) -> bool:
    """Make the index; return whether that worked. If not, the layer is unpacked."""
    try:
        index(folder)
    except UnsupportedError as error:
        log.warning("layer cannot be indexed", extra={"reason": str(error)})
        with suppress(FileNotFoundError):
            os.unlink(f"{folder}/{_INDEX}")
        return False
    return True


def _mount(folder: str) -> Mount:
    return Mount("erofs", f"{folder}/{_INDEX}", "", ("ro", f"device={folder}/{_TAR}"))


def _size(folder: str) -> int:
    return sum(os.stat(f"{folder}/{name}").st_blocks * 512 for name in (_TAR, _INDEX))
