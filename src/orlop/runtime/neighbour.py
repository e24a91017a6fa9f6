"""Bind mounts from another container: the source is /proc/PID/root/…

The kernel copies no mount of another mount namespace, so the child enters that
namespace, copies the mount, and comes back. open_tree(2), setns(2).
"""

import os

from orlop.kernel.mount import clone_mount
from orlop.kernel.namespaces import Namespace, setns
from orlop.kernel.paths import open_in_root


def is_of_neighbour(source: str) -> bool:
    """Whether *source* is beneath another process's root: /proc/PID/root/…"""
    match source.split("/", 4):
        case ["", "proc", pid, "root", path]:
            return pid.isascii() and pid.isdecimal() and pid[0] != "0" and bool(path)
        case _:
            return False


def bind_from_neighbour(source: str, *, recursive: bool) -> int:
    """Return a detached copy of the mount at *source*; links in the path stay in its root.

    For a child that does not fork any more and shares its file system with nobody, because
    afterwards its root and working directory are the namespace's own.
    """
    _, _, pid, _, path = source.split("/", 4)
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    away = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(away, Namespace.MOUNT)
        try:
            return _copy(path, recursive=recursive)
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
