"""Overlay on unpacked layers: each layer is a folder, shared by all images that have it."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from orlop.errors import InvalidArgumentError
from orlop.layers.budget import Account
from orlop.layers.copy import copy_upper
from orlop.layers.diff import Change, changes, in_upper, without_mount_points
from orlop.layers.removal import remove_tree
from orlop.layers.write import Output, TarWriter, export
from orlop.model.mount import Mount
from orlop.snapshots import sized
from orlop.snapshots.base import Bases
from orlop.snapshots.interface import LayerKey
from orlop.snapshots.shelf import Shelf
from orlop.snapshots.stacks import (
    Layer,
    Stack,
    patch_of,
    root_attributes,
    set_attributes,
    write_patch,
)
from orlop.snapshots.unpacked import UnpackedLayers, closing, opened
from orlop.snapshots.view import open_root
from orlop.store.faults import explained

MOST_LAYERS = 499  # the kernel's OVL_MAX_STACK is 500, and one is for show_everywhere()
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

#: Redirects and metacopy would leave marks in layers that only overlay understands.
_OPTIONS = ("index=off", "metacopy=off", "redirect_dir=nofollow")


class Overlay(UnpackedLayers):
    """The driver `overlay`. With *volatile*, writes of containers are not flushed on sync."""

    name = "overlay"
    copies = False

    def __init__(self, root: str, *, volatile: bool = False) -> None:
        super().__init__(root)
        #: Used when overlay needs more lower folders than there are layers.
        self._empty = [os.path.join(self._shelf.root, name) for name in ("empty-0", "empty-1")]
        for folder in self._empty:
            os.makedirs(folder, mode=0o755, exist_ok=True)
        self._volatile = volatile
        self._lowest: tuple[str, ...] = ()

    def show_everywhere(self, name: str) -> None:
        folder = os.path.join(self._shelf.root, "lowest")
        os.makedirs(folder, mode=0o755, exist_ok=True)
        with suppress(FileExistsError), opened(folder) as fd:
            os.close(os.open(name, _NEW, 0o755, dir_fd=fd))
        self._lowest = (f"lowerdir+={folder}",)

    @classmethod
    def probe(cls, root: str) -> None:
        """Mount an overlay with an upper layer in *root*; UnsupportedError if that fails."""
        with Shelf(root).staging() as folder:
            for name in ("fs", "work", "lower"):
                os.mkdir(f"{folder}/{name}")
            folders = (f"upperdir={folder}/fs", f"workdir={folder}/work")
            options = (f"lowerdir+={folder}/lower", *folders, *_OPTIONS)
            os.close(open_root([Mount("overlay", "overlay", "/", options)]))

    def prepare(
        self,
        snapshot: str,
        layers: Sequence[LayerKey],
        *,
        base: Sequence[Mount] = (),
        size_bytes: int = 0,
    ) -> None:
        root = self._stack(layers).root
        with explained(f"snapshot {snapshot}"):
            path = self._shelf.make_snapshot(snapshot)
            if size_bytes:
                sized.make(path, size_bytes)
            with sized.place(path) as place:
                with opened(f"{place}/fs") as fd:
                    set_attributes(fd, root)
                if base:
                    Bases(path, place).make(base)
            if size_bytes:  # refuse here what this kernel cannot mount, not at a start
                os.close(open_root(self.mounts(snapshot, layers)))

    def copy(self, snapshot: str, source: str) -> None:
        with explained(f"snapshot {snapshot}"):
            there = self._shelf.existing_snapshot(source)
            here = self._shelf.existing_snapshot(snapshot)
            with sized.place(there) as from_, sized.place(here) as to:
                pairs = zip(Bases(there, from_).uppers(), Bases(here, to).uppers(), strict=True)
                for theirs, ours in pairs:
                    with opened(theirs) as upper, opened(ours) as target:
                        copy_upper(upper, target)

    def mounts(
        self, snapshot: str, layers: Sequence[LayerKey], *, readonly: bool = False
    ) -> tuple[Mount, ...]:
        path = self._shelf.existing_snapshot(snapshot)
        before, lowers = self._lowers(layers)
        place = path
        if sized.is_sized(path):
            place = f"mount:{len(before)}"
            before = (*before, sized.mount(path))
        if readonly:
            root = self._stacked(before, (f"lowerdir+={place}/fs", *lowers))
        else:
            self._unmark(path)
            lowers = lowers or (f"lowerdir+={self._empty[0]}",)
            root = (*before, Mount("overlay", "overlay", "/", (*lowers, *self.upper(place))))
        return (*root, *Bases(path, place).mounts(self.upper, readonly=readonly))

    def lower_mounts(self, layers: Sequence[LayerKey]) -> tuple[Mount, ...]:
        """Return the mounts of the layers alone."""
        return self._stacked(*self._lowers(layers))

    def _stacked(self, before: tuple[Mount, ...], lowers: tuple[str, ...]) -> tuple[Mount, ...]:
        """Return the overlay of *lowers*; without an upper folder it needs at least two."""
        fill = self._empty[: max(0, 2 - len(lowers))]
        options = (*lowers, *(f"lowerdir+={folder}" for folder in fill), *_OPTIONS)
        return (*before, Mount("overlay", "overlay", "/", options))

    def _unmark(self, path: str) -> None:
        """Remove overlay's mark for "in use", which would prevent a second mount."""
        if self._volatile:
            with sized.place(path) as place:
                for upper in Bases(path, place).uppers():
                    remove_tree(f"{os.path.dirname(upper)}/work/work/incompat")

    def _lowers(self, layers: Sequence[LayerKey]) -> tuple[tuple[Mount, ...], tuple[str, ...]]:
        """Return mounts to make first, and the options that name the layers, topmost first."""
        if len(layers) >= MOST_LAYERS:
            raise InvalidArgumentError(f"more than {MOST_LAYERS - 1} layers cannot be mounted")
        patch = self._stack(layers).patch
        before: list[Mount] = []
        lowers = [f"lowerdir+={self._shelf.patch_path(patch)}/fs"] if patch else []
        for key in reversed(layers):
            lowers.append(f"lowerdir+={self._lower(key, before)}")
        return tuple(before), (*lowers, *self._lowest)

    def _lower(self, key: LayerKey, before: list[Mount]) -> str:
        """Return the name of one layer for overlay; a mount that it needs goes to *before*."""
        return f"{self._shelf.layer_path(key)}/fs"

    def _lay(self, layers: Sequence[Layer], staged: str, name: str, account: Account) -> Stack:
        patch = patch_of(layers, account)
        if patch:
            os.mkdir(f"{staged}/fs", 0o700)
            with opened(f"{staged}/fs") as fd:
                write_patch(fd, patch)
        return Stack(name if patch else None, patch.get("") or root_attributes(layers))

    def changes(
        self, snapshot: str, layers: Sequence[LayerKey], *, mount_points: Collection[str] = ()
    ) -> Iterator[Change]:
        for prefix, upper, lower in self._opened(snapshot, layers):
            found = in_upper(upper, lower, prefix=prefix)
            yield from changes(without_mount_points(found, mount_points))

    def export_diff(
        self,
        snapshot: str,
        layers: Sequence[LayerKey],
        out: Output,
        *,
        mount_points: Collection[str] = (),
    ) -> None:
        writer = TarWriter(out)
        for prefix, upper, lower in self._opened(snapshot, layers):
            found = without_mount_points(in_upper(upper, lower, prefix=prefix), mount_points)
            export(found, upper, writer, prefix=prefix)
        writer.close()

    def _opened(self, snapshot: str, layers: Sequence[LayerKey]) -> Iterator[tuple[str, int, int]]:
        """Yield each writable layer: its path in the root, its upper and lower folder, open."""
        path = self._shelf.existing_snapshot(snapshot)
        lower = open_root(self.lower_mounts(layers))
        with sized.place(path) as place:
            with closing(lower), opened(f"{place}/fs") as upper:
                yield "", upper, lower
            for target, below, above in Bases(path, place).halves():
                with opened(below) as lower, opened(above) as upper:
                    yield target, upper, lower

    def upper(self, path: str) -> tuple[str, ...]:
        """Return the options that make *path* the writable layer of an overlay."""
        options = (f"upperdir={path}/fs", f"workdir={path}/work", *_OPTIONS)
        return (*options, "volatile") if self._volatile else options
