"""Comparing two trees of files, in all that a layer can say of them."""

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: Of the host's policy or of overlay, and of no layer.
IGNORED_XATTRS = ("trusted.overlay.", "security.selinux")


class Node(NamedTuple):
    """One file of any kind."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    device: int
    link: str
    xattrs: tuple[tuple[str, bytes], ...]
    size: int
    sha256: str
    names: tuple[str, ...]  # all of the same inode in this tree, sorted

    def difference(self, other: "Node") -> str:
        """Return what differs, as text; "" if nothing does."""
        pairs = zip(self._fields, self, other, strict=True)
        return ", ".join(f"{field}: {a!r} != {b!r}" for field, a, b in pairs if a != b)


def tree(root: str | Path) -> dict[str, Node]:
    """Return every file below *root*, and itself as ".", by path."""
    links: dict[tuple[int, int], list[str]] = defaultdict(list)
    found = dict(_walk(str(root), "."))
    for path, status in found.items():
        if not stat.S_ISDIR(status.st_mode):
            links[status.st_dev, status.st_ino].append(path)
    return {
        path: _node(f"{root}/{path}", status, links[status.st_dev, status.st_ino])
        for path, status in found.items()
    }


def differences(ours: dict[str, Node], theirs: dict[str, Node]) -> list[str]:
    """Return one line per path that is not the same in both; an empty list says they are equal."""
    lines = [f"{path}: only in the first" for path in sorted(ours.keys() - theirs.keys())]
    lines += [f"{path}: only in the second" for path in sorted(theirs.keys() - ours.keys())]
    for path in sorted(ours.keys() & theirs.keys()):
        difference = ours[path].difference(theirs[path])
        if difference:
            lines.append(f"{path}: {difference}")
    return lines


def _walk(root: str, path: str) -> Iterator[tuple[str, os.stat_result]]:
    status = os.lstat(f"{root}/{path}")
    yield path, status
    if stat.S_ISDIR(status.st_mode):
        for name in os.listdir(f"{root}/{path}"):
            yield from _walk(root, name if path == "." else f"{path}/{name}")


def _node(place: str, status: os.stat_result, names: list[str]) -> Node:
    is_file = stat.S_ISREG(status.st_mode)
    is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    return Node(
        kind=stat.filemode(status.st_mode)[0],
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        device=status.st_rdev if is_device else 0,
        link=os.readlink(place) if stat.S_ISLNK(status.st_mode) else "",
        xattrs=tuple(
            (name, os.getxattr(place, name, follow_symlinks=False))
            for name in sorted(os.listxattr(place, follow_symlinks=False))
            if not name.startswith(IGNORED_XATTRS)
        ),
        size=status.st_size if is_file else 0,
        sha256=_sha256(place) if is_file else "",
        names=tuple(sorted(names)),
    )


def _sha256(place: str) -> str:
    with open(place, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
