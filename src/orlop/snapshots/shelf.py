"""The folders of one driver: what is in them is whole, and gone in one rename.

    layers/sha256-…/    a layer, with layer.json; `durable` once it would outlive a power cut
    patches/…/          a stack of layers made ready, and what mends it (stacks.py)
    snapshots/NAME/     a writable snapshot
    pool/               snapshots without a name yet (pool.py)
    staging/…/          being made (locked by its maker), or to be deleted (not locked)

A layer is not flushed to disk as it is made, for that would slow every pull.
Until sync() has done so it names the boot it was made in, and counts for nothing
after another: the worst that a power cut costs is to unpack again.
"""

import fcntl
import functools
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from orlop.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from orlop.kernel.files import syncfs
from orlop.layers.apply import Applied
from orlop.layers.removal import remove_tree
from orlop.model.pool import Stock
from orlop.snapshots.interface import LayerKey, layer_key
from orlop.snapshots.pool import SnapshotFolders
from orlop.store.faults import FULL

_SNAPSHOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_DURABLE = "durable"
_RECORD = "layer.json"


class Shelf:
    """One driver's folder *root*, made if missing; mode 0700, for layers hold set-uid files."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        for name in ("layers", "patches", "pool", "snapshots", "staging"):
            os.makedirs(os.path.join(self.root, name), mode=0o700, exist_ok=True)
        self._folders = SnapshotFolders(os.path.join(self.root, "pool"))

    def layer_path(self, key: LayerKey) -> str:
        return os.path.join(self.root, "layers", layer_key(key).replace(":", "-"))

    def patch_path(self, name: str) -> str:
        return os.path.join(self.root, "patches", name)

    def snapshot_path(self, name: str) -> str:
        """Return the snapshot's folder; InvalidArgumentError unless *name* can be one."""
        if not _SNAPSHOT.fullmatch(name):
            raise InvalidArgumentError(f"invalid snapshot name {name[:128]!r}")
        return os.path.join(self.root, "snapshots", name)

    def existing_snapshot(self, name: str) -> str:
        """Return the snapshot's folder; NotFoundError if there is none."""
        path = self.snapshot_path(name)
        if not os.path.isdir(path):
            raise NotFoundError(f"no snapshot {name}")
        return path

    def make_snapshot(self, name: str) -> str:
        """Make the snapshot's folder, with `fs` and `work` in it; AlreadyExistsError."""
        path = self.snapshot_path(name)
        try:
            self._folders.take(path)
        except FileExistsError:
            raise AlreadyExistsError(f"snapshot {name} exists already") from None
        return path

    def ahead(self) -> Stock:
        """Return how the pool of snapshots that are made ahead stands."""
        return self._folders.pool.stock

    def has_layer(self, key: LayerKey) -> bool:
        path = self.layer_path(key)
        if os.path.exists(os.path.join(path, _DURABLE)):
            return True
        return self._record(path).get("boot") == boot()

    def record(self, key: LayerKey) -> dict[str, Any]:
        """Return what was written down of the layer; NotFoundError if it is not here."""
        record = self._record(self.layer_path(key))
        if not record:
            raise NotFoundError(f"no layer {key}", hint="pull the image again")
        return record

    def layers(self) -> set[LayerKey]:
        names = os.listdir(os.path.join(self.root, "layers"))
        keys = (LayerKey(name.replace("-", ":", 1)) for name in names)
        return {key for key in keys if self.has_layer(key)}

    def snapshots(self) -> set[str]:
        return set(os.listdir(os.path.join(self.root, "snapshots")))

    @contextmanager
    def staging(self) -> Iterator[str]:
        """Yield a new folder that is ours while we live; what is left in it goes at the end."""
        path, fd = self._make_staging()
        try:
            yield path
        finally:
            os.close(fd)
            remove_tree(path)

    def publish_layer(self, staged: str, key: LayerKey, applied: Applied, *, size: int) -> None:
        """Let the layer made in the folder *staged* appear; if it is there already, nothing."""
        record = {
            "boot": boot(),
            "size": size,
            "root": applied.root_given,
            "implicit": sorted(os.fsdecode(path) for path in applied.implicit),
            "marked": sorted(os.fsdecode(path) for path in applied.marked),
        }
        with open(os.path.join(staged, _RECORD), "w", encoding="utf-8") as file:
            json.dump(record, file)
        target = self.layer_path(key)
        if os.path.exists(target) and not self.has_layer(key):
            self.discard(target)  # from before a power cut
        publish(staged, target)

    def stack(self, layers: Sequence[LayerKey]) -> dict[str, Any]:
        """Return what was written down of the stack since the machine started, or {}."""
        record = self._record(self.patch_path(stack_name(layers)))
        return record if record.get("boot") == boot() else {}

    def publish_stack(
        self, staged: str, layers: Sequence[LayerKey], record: dict[str, Any]
    ) -> None:
        """Let the stack made in *staged* appear, unless there is one: containers may run on it."""
        with open(os.path.join(staged, _RECORD), "w", encoding="utf-8") as file:
            json.dump({**record, "boot": boot(), "layers": layers}, file)
        target = self.patch_path(stack_name(layers))
        if not self.stack(layers):
            self.discard(target)
        publish(staged, target)

    def discard(self, path: str) -> None:
        """Let the tree at *path* be gone at once, and deleted by collect()."""
        try:
            os.rename(path, os.path.join(self.root, "staging", secrets.token_hex(8)))
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in FULL:
                raise
            remove_tree(path)  # a full disk may lack the block for one more name

    def remove_layer(self, key: LayerKey) -> None:
        for name in os.listdir(os.path.join(self.root, "patches")):
            if key in self._record(self.patch_path(name)).get("layers", ()):
                self.discard(self.patch_path(name))
        self.discard(self.layer_path(key))

    def sync(self) -> None:
        """Flush the file system once, then mark the layers that it covered."""
        folder = os.path.join(self.root, "layers")
        fresh = [
            path
            for path in (os.path.join(folder, name) for name in os.listdir(folder))
            if not os.path.exists(os.path.join(path, _DURABLE))
            and self._record(path).get("boot") == boot()
        ]
        if not fresh:
            return
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)
        for path in fresh:
            with suppress(FileNotFoundError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                os.close(os.open(os.path.join(path, _DURABLE), flags, 0o600))

    def collect(self) -> int:
        self._discard_lost()
        folder = os.path.join(self.root, "staging")
        return sum(_delete_unless_locked(os.path.join(folder, name)) for name in os.listdir(folder))

    def _discard_lost(self) -> None:
        """Layers of another boot that were never flushed."""
        folder = os.path.join(self.root, "layers")
        kept = {key.replace(":", "-") for key in self.layers()}
        for name in set(os.listdir(folder)) - kept:
            if self._record(os.path.join(folder, name)).get("boot") != boot():
                self.discard(os.path.join(folder, name))

    def _make_staging(self) -> tuple[str, int]:
        while True:
            path = os.path.join(self.root, "staging", secrets.token_hex(8))
            os.mkdir(path, 0o700)
            with suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.path.exists(path):
                    return path, fd
                os.close(fd)  # collect() came between

    @staticmethod
    def _record(path: str) -> dict[str, Any]:
        try:
            with open(os.path.join(path, _RECORD), encoding="utf-8") as file:
                record = json.load(file)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


def publish(staged: str, target: str) -> None:
    """Rename the folder; if another was quicker, theirs stays."""
    try:
        os.rename(staged, target)
    except OSError:
        if not os.path.isdir(target):
            raise


def disk_usage(paths: Iterable[str]) -> int:
    """Return the bytes that the trees take on disk; a file with several names counts once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = list(paths)
    while pending:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(entry.path)
                elif status.st_nlink > 1:
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


@functools.cache
def boot() -> str:
    """Return what names this boot of the machine. random(4)."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def stack_name(layers: Sequence[LayerKey]) -> str:
    """Return a name for the stack, fit for a path."""
    import hashlib  # rarely needed, and slow to import

    return hashlib.sha256(" ".join(layers).encode()).hexdigest()


def _delete_unless_locked(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        remove_tree(path)
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(path)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
