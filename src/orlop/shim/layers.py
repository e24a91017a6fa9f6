"""Read-only layers, mounted once for all the containers that stand on them.

A detached mount, held as a descriptor, serves any number of overlays (Linux
6.15). Each start saves the mounting, and all containers of an image share one
page cache, where a mount each would read the same files into memory again.
"""

import os
from collections.abc import Iterable, Sequence

from orlop.model.mount import Mount
from orlop.model.oci import OCIMount
from orlop.runtime.filesystems import filesystem
from orlop.runtime.options import parse
from orlop.runtime.rootfs import of_file

_LIMIT = 512  # descriptors; what is dropped is mounted again when needed
_KINDS = frozenset(("erofs", "squashfs"))
_SINCE = (6, 15)


class Layers:
    """Mounts by what they are of. One whose layer was removed goes with the next sweep()."""

    def __init__(self) -> None:
        self._mounts: dict[tuple[Mount, int, int], int] = {}  # oldest use first
        self._supported = _kernel() >= _SINCE
        self._lent: list[int] = []  # mounts that one start alone is to have
        self._names: dict[str, str] = {}  # what the last share() has named

    def share(self, rootfs: Sequence[Mount]) -> tuple[Mount, ...]:
        """Return *rootfs* with its read-only layers named by descriptors of ours.

        They are paths under /proc/self/fd, good until the next call: for a child
        that is made before. What cannot be shared stays as it is.
        """
        self.release()
        shared = self._names = {}
        kept: list[Mount] = []
        for place, mount in enumerate(rootfs):
            if mount.type == "ext4" and not mount.target:  # the child's cgroup has no such device
                self._lent.append(of_file(mount))
                shared[f"mount:{place}"] = f"/proc/self/fd/{self._lent[-1]}"
            elif self._supported and not mount.target and mount.type in _KINDS:
                shared[f"mount:{place}"] = f"/proc/self/fd/{self._descriptor(mount)}"
            else:
                shared[f"mount:{place}"] = f"mount:{len(kept)}"
                kept.append(mount)
        self._evict(keep=len(shared))
        return tuple(mount._replace(options=_renamed(mount.options, shared)) for mount in kept)

    def name(self, mounts: Iterable[OCIMount]) -> None:
        """Change the mounts of a config.json that are in one of the last share(): `mount:N/…`."""
        for mount in mounts if self._lent else ():
            if mount.get("type") == "overlay":
                mount["options"] = list(_renamed(mount.get("options", ()), self._names))

    def release(self) -> None:
        """Close what only the last start needed, once its child has it."""
        while self._lent:
            os.close(self._lent.pop())

    def sweep(self) -> None:
        """Let go of layers that were removed, so that their space comes back."""
        for key in list(self._mounts):
            mount, device, inode = key
            if _identity(mount.source) != (device, inode):
                os.close(self._mounts.pop(key))

    def _descriptor(self, mount: Mount) -> int:
        key = (mount, *_identity(mount.source))
        fd = self._mounts.pop(key, None)
        if fd is None:
            fd = filesystem(mount.type, mount.source, parse(mount.options))
        self._mounts[key] = fd
        return fd

    def _evict(self, *, keep: int) -> None:
        while len(self._mounts) > max(_LIMIT, keep):
            os.close(self._mounts.pop(next(iter(self._mounts))))


def _renamed(options: Sequence[str], names: dict[str, str]) -> tuple[str, ...]:
    """Return an overlay's options with each `mount:N` in them as *names* has it."""
    renamed = []
    for option in options:
        key, _, value = option.partition("=")
        mount, inside, name = value.partition("/")
        renamed.append(f"{key}={names[mount]}{inside}{name}" if mount in names else option)
    return tuple(renamed)


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor)) or 0)
