"""Mounts inside an image's root, and their writable layers. See images/host.py.

They are recorded in the snapshot, so that nobody else has to remember them.
"""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from orlop.errors import InvalidArgumentError
from orlop.model.mount import Mount
from orlop.snapshots.stacks import attributes_of, set_attributes

_FILE = "base.json"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Bases:
    """The base mounts of the snapshot whose folder is *path*.

    *place*: the folder for writes, if it is a different one (sized.py).
    """

    def __init__(self, path: str, place: str = "") -> None:
        self._path = path
        self._place = place or path

    def make(self, base: Sequence[Mount]) -> None:
        """Record *base*, and make an upper layer for each overlay that has none."""
        for number, mount in enumerate(base):
            if not mount.target.startswith("/") or mount.target == "/":
                raise InvalidArgumentError(f"invalid base mount at {mount.target!r}")
            if mount.type == "overlay":
                upper = self._upper(number)
                for folder in (upper, f"{upper}/fs", f"{upper}/work"):
                    os.mkdir(folder, 0o700)
                _copy_attributes(_lowers(mount)[0], f"{upper}/fs")
        with open(os.path.join(self._path, _FILE), "w", encoding="utf-8") as file:
            json.dump(base, file)

    def read(self) -> list[Mount]:
        try:
            with open(os.path.join(self._path, _FILE), encoding="utf-8") as file:
                rows = json.load(file)
        except FileNotFoundError:
            return []
        return [Mount(row[0], row[1], row[2], tuple(row[3])) for row in rows]

    def mounts(
        self, upper: Callable[[str], tuple[str, ...]], *, readonly: bool
    ) -> tuple[Mount, ...]:
        """Return the mounts to make after the root; *upper* returns an upper layer's options."""
        return tuple(
            self._mount(number, mount, upper, readonly=readonly)
            for number, mount in enumerate(self.read())
        )

    def uppers(self) -> list[str]:
        """Return the folders with the snapshot's changes, the root's first."""
        overlays = (number for number, mount in enumerate(self.read()) if mount.type == "overlay")
        return [f"{self._place}/fs", *(f"{self._upper(number)}/fs" for number in overlays)]

    def halves(self) -> list[tuple[str, str, str]]:
        """Return each overlay's path in the root, its lower and its upper folder."""
        return [
            (mount.target.strip("/"), _lowers(mount)[0], f"{self._upper(number)}/fs")
            for number, mount in enumerate(self.read())
            if mount.type == "overlay"
        ]

    def _mount(
        self,
        number: int,
        mount: Mount,
        upper: Callable[[str], tuple[str, ...]],
        *,
        readonly: bool,
    ) -> Mount:
        if mount.type != "overlay":
            return mount
        if readonly:
            return read_only_bind(mount)
        return mount._replace(options=(*mount.options, *upper(self._upper(number))))

    def _upper(self, number: int) -> str:
        return f"{self._place}/base-{number}"


def read_only_bind(mount: Mount) -> Mount:
    """Return the overlay *mount* without its upper layer, as a bind mount of its lower folder."""
    return Mount("bind", _lowers(mount)[0], mount.target, ("bind", "ro"))


def _lowers(mount: Mount) -> list[str]:
    prefix = "lowerdir+="
    lowers = [option[len(prefix) :] for option in mount.options if option.startswith(prefix)]
    if len(lowers) != 1:
        raise InvalidArgumentError(f"base mount at {mount.target} needs one lower folder")
    return lowers


def _copy_attributes(source: str, target: str) -> None:
    with suppress(FileNotFoundError):
        source_fd = os.open(source, _FOLDER)
        try:
            target_fd = os.open(target, _FOLDER)
            try:
                set_attributes(target_fd, attributes_of(source_fd))
            finally:
                os.close(target_fd)
        finally:
            os.close(source_fd)
