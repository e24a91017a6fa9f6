"""Plain copies, for hosts without overlay: slow to prepare, but they work everywhere.

Layers are stored as for overlay. Each stack in use is copied into one tree, once. Every
snapshot is a copy of that tree (blocks are shared if the file system supports it), and is
later compared with it.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from orlop.errors import UnsupportedError
from orlop.layers.budget import Account
from orlop.layers.copy import lay_over
from orlop.layers.diff import Change, changes, in_copy, without_mount_points
from orlop.layers.removal import remove_tree
from orlop.layers.write import Output, TarWriter, export
from orlop.model.mount import Mount
from orlop.snapshots.base import Bases, read_only_bind
from orlop.snapshots.interface import LayerKey
from orlop.snapshots.shelf import Shelf
from orlop.snapshots.stacks import Layer, Stack, root_attributes, set_attributes
from orlop.snapshots.unpacked import UnpackedLayers, opened
from orlop.store.faults import explained


class Native(UnpackedLayers):
    """The driver `native`. *volatile* has no effect: nothing is flushed here anyway."""

    name = "native"
    copies = True

    def __init__(self, root: str, *, volatile: bool = False) -> None:
        super().__init__(root)

    def show_everywhere(self, name: str) -> None:
        """Do nothing: in a copy the file could not be distinguished from a container's."""

    @classmethod
    def probe(cls, root: str) -> None:
        """Check that the folder can be made; OSError if not."""
        Shelf(root)

    def prepare(
        self,
        snapshot: str,
        layers: Sequence[LayerKey],
        *,
        base: Sequence[Mount] = (),
        size_bytes: int = 0,
    ) -> None:
        if size_bytes:
            raise UnsupportedError(
                "the snapshotter native cannot limit what a container writes",
                hint="start the engine with --snapshotter overlay",
            )
        flat = self._flat(layers)
        with explained(f"snapshot {snapshot}"):
            path = self._shelf.make_snapshot(snapshot)
            with opened(flat) as source, opened(f"{path}/fs") as target:
                lay_over(source, target)
            if base:
                plain = [read_only_bind(m) if m.type == "overlay" else m for m in base]
                Bases(path).make(plain)

    def copy(self, snapshot: str, source: str) -> None:
        with explained(f"snapshot {snapshot}"):
            path = self._shelf.existing_snapshot(snapshot)
            theirs = self._shelf.existing_snapshot(source)
            remove_tree(f"{path}/fs")
            os.mkdir(f"{path}/fs", 0o700)
            with opened(f"{theirs}/fs") as tree, opened(f"{path}/fs") as target:
                lay_over(tree, target)

    def mounts(
        self, snapshot: str, layers: Sequence[LayerKey], *, readonly: bool = False
    ) -> tuple[Mount, ...]:
        path = self._shelf.existing_snapshot(snapshot)
        options = ("bind", "ro") if readonly else ("bind",)
        return (Mount("bind", f"{path}/fs", "/", options), *Bases(path).read())

    def changes(
        self, snapshot: str, layers: Sequence[LayerKey], *, mount_points: Collection[str] = ()
    ) -> Iterator[Change]:
        with self._opened(snapshot, layers) as (tree, base):
            yield from changes(without_mount_points(in_copy(tree, base), mount_points))

    def export_diff(
        self,
        snapshot: str,
        layers: Sequence[LayerKey],
        out: Output,
        *,
        mount_points: Collection[str] = (),
    ) -> None:
        writer = TarWriter(out)
        with self._opened(snapshot, layers) as (tree, base):
            export(without_mount_points(in_copy(tree, base), mount_points), tree, writer)
        writer.close()

    @contextmanager
    def _opened(self, snapshot: str, layers: Sequence[LayerKey]) -> Iterator[tuple[int, int]]:
        path = self._shelf.existing_snapshot(snapshot)
        with opened(f"{path}/fs") as tree, opened(self._flat(layers)) as base:
            yield tree, base

    def _flat(self, layers: Sequence[LayerKey]) -> str:
        patch = self._stack(layers).patch
        assert patch is not None
        return f"{self._shelf.patch_path(patch)}/fs"

    def _lay(self, layers: Sequence[Layer], staged: str, name: str, account: Account) -> Stack:
        root = root_attributes(layers)
        os.mkdir(f"{staged}/fs", 0o755)
        with opened(f"{staged}/fs") as tree:
            set_attributes(tree, root)
            for layer in layers:
                lay_over(layer.root, tree, keep=layer.implicit | {""})
                account.tick()
            set_attributes(tree, root)
        return Stack(name, root)
