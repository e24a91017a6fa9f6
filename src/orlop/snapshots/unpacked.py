"""Layers unpacked into folders: what the drivers that do so have in common."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from orlop.layers.apply import Applied, apply
from orlop.layers.budget import DEFAULT, Account, Budget
from orlop.layers.tar import Stream
from orlop.model.pool import Stock
from orlop.snapshots import sized
from orlop.snapshots.base import Bases
from orlop.snapshots.interface import LayerKey
from orlop.snapshots.shelf import Shelf, disk_usage, stack_name
from orlop.snapshots.stacks import Layer, Stack, stack_as_json, stack_from_json
from orlop.store.faults import explained

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnpackedLayers:
    """The half of a driver that keeps layers, and names of snapshots."""

    def __init__(self, root: str) -> None:
        self._shelf = Shelf(root)
        self._stacks: dict[tuple[LayerKey, ...], Stack] = {}
        self._lock = threading.Lock()
        self._making: dict[tuple[LayerKey, ...], threading.Lock] = {}

    def has_layer(self, key: LayerKey) -> bool:
        return self._shelf.has_layer(key)

    def add_layer(self, key: LayerKey, tar: Stream, *, budget: Budget = DEFAULT) -> int:
        if self.has_layer(key):
            drain(tar)
            return self.layer_usage(key)
        with explained(f"layer {key}"), self._shelf.staging() as staged:
            applied, size = self._fill(staged, tar, budget)
            self._shelf.publish_layer(staged, key, applied, size=size)
        return size

    def remove_layer(self, key: LayerKey) -> None:
        with self._lock:
            self._stacks = {keys: stack for keys, stack in self._stacks.items() if key not in keys}
            self._shelf.remove_layer(key)

    def layers(self) -> set[LayerKey]:
        return self._shelf.layers()

    def layer_usage(self, key: LayerKey) -> int:
        return int(self._shelf.record(key)["size"])

    def remove(self, snapshot: str) -> None:
        self._shelf.discard(self._shelf.snapshot_path(snapshot))

    def ahead(self) -> Stock:
        return self._shelf.ahead()

    def snapshots(self) -> set[str]:
        return self._shelf.snapshots()

    def usage(self, snapshot: str) -> int:
        path = self._shelf.existing_snapshot(snapshot)
        with sized.place(path) as place:
            return disk_usage(Bases(path, place).uppers())

    def sync(self) -> None:
        self._shelf.sync()

    def collect(self) -> int:
        return self._shelf.collect()

    def _fill(self, staged: str, tar: Stream, budget: Budget) -> tuple[Applied, int]:
        """Make a layer in the empty folder *staged*; returns its size on disk in bytes too."""
        return unpack(staged, tar, budget)

    def _open_layer(self, key: LayerKey) -> int:
        """Return the layer's root, open; the caller closes it."""
        return os.open(f"{self._shelf.layer_path(key)}/fs", FOLDER)

    def is_stacked(self, layers: Sequence[LayerKey]) -> bool:
        return tuple(layers) in self._stacks

    def stack(self, layers: Sequence[LayerKey], *, budget: Budget = DEFAULT) -> None:
        keys = tuple(layers)
        with self._lock:
            turn = self._making.setdefault(keys, threading.Lock())
        with turn, explained("the image's files"):
            if keys not in self._stacks:
                known = self._shelf.stack(keys)
                stack = stack_from_json(known) if known else self._make_stack(keys, budget)
                with self._lock:
                    self._stacks[keys] = stack
                    self._making.pop(keys, None)

    def find_stack(self, layers: Sequence[LayerKey]) -> bool:
        known = self._shelf.stack(layers)
        if known:
            self._stacks[tuple(layers)] = stack_from_json(known)
        return bool(known)

    def _stack(self, layers: Sequence[LayerKey]) -> Stack:
        keys = tuple(layers)
        if keys not in self._stacks:
            self.stack(layers)
        return self._stacks[keys]

    def _make_stack(self, keys: tuple[LayerKey, ...], budget: Budget) -> Stack:
        with self._layers(keys) as layers, self._shelf.staging() as staged:
            stack = self._lay(layers, staged, stack_name(keys), Account(budget, "image"))
            self._shelf.publish_stack(staged, keys, stack_as_json(stack))
        return stack

    def _lay(self, layers: Sequence[Layer], staged: str, name: str, account: Account) -> Stack:
        """Make ready what the stack needs beyond its layers, as a folder `fs` in *staged*.

        *name* is the patch's, if there is one.
        """
        raise NotImplementedError

    @contextmanager
    def _layers(self, keys: Sequence[LayerKey]) -> Iterator[list[Layer]]:
        """Open the layers for as long as the context lasts."""
        with ExitStack() as undo:
            layers: list[Layer] = []
            for key in keys:
                record = self._shelf.record(key)
                fd = self._open_layer(key)
                undo.callback(os.close, fd)
                implicit, marked = frozenset(record["implicit"]), frozenset(record["marked"])
                layers.append(Layer(fd, implicit, marked, record["root"]))
            yield layers


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Open a folder for as long as the context lasts."""
    fd = os.open(path, FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def unpack(staged: str, tar: Stream, budget: Budget) -> tuple[Applied, int]:
    """Make the layer as a folder `fs` in *staged*."""
    os.mkdir(f"{staged}/fs", 0o755)
    with opened(f"{staged}/fs") as fd:
        os.fchmod(fd, 0o755)  # whatever the umask
        applied = apply(tar, fd, budget=budget)
    return applied, applied.file_bytes


def drain(tar: Stream) -> None:
    """Read the stream to its end, for whoever takes a digest on the way."""
    while tar.read(1 << 20):
        pass
