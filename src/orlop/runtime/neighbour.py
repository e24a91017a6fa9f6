"""Mounts of another container: a bind whose source is /proc/PID/root/…

The kernel copies no mount of a mount namespace that one is not in, so the child
goes there, takes the copy along, and comes back. open_tree(2), setns(2).
"""

import os
import re

from orlop.kernel.mount import clone_mount
from orlop.kernel.namespaces import Namespace, setns
from orlop.kernel.paths import open_in_root

_SOURCE = re.compile(r"/proc/([1-9][0-9]*)/root/(.+)")


def is_of_neighbour(source: str) -> bool:
    """Whether *source* is beneath another process's root."""
    return _SOURCE.fullmatch(source) is not None


def bind_from_neighbour(source: str, *, recursive: bool) -> int:
    """Return a detached copy of the mount at *source*; the path's links stay in its root.

    For a child that forks no more and shares its file system with nobody: root and
    working directory are the namespace's own afterwards.
    """
    found = _SOURCE.fullmatch(source)
    assert found is not None
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    away = os.open(f"/proc/{found[1]}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(away, Namespace.MOUNT)
        try:
            return _copy(found[2], recursive=recursive)
        finally:
            setns(home, Namespace.MOUNT)
    finally:
        os.close(home)
        os.close(away)


def _copy(path: str, *, recursive: bool) -> int:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        folder = open_in_root(root, path)
    finally:
        os.close(root)
    try:
        return clone_mount(folder, recursive=recursive)
    finally:
        os.close(folder)
