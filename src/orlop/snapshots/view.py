"""Look into mounts without attaching them: they disappear with their descriptor."""

import errno
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from orlop.errors import UnsupportedError
from orlop.kernel import mount as kernel
from orlop.kernel.loop import attached
from orlop.kernel.namespaces import Namespace, setns, unshare_paths
from orlop.model.mount import Mount

_BY_PLACE = "mount:"
_NODEV = int(kernel.MountAttr.NODEV)  # a running container may replace a file by a device

_READ_ONLY = int(kernel.MountAttr.RDONLY | kernel.MountAttr.NODEV)


def open_root(mounts: Sequence[Mount]) -> int:
    """Return the root made from *mounts*, as an open folder; the caller closes it.

    Only the mounts for the root itself are made, not those inside it.
    Raises UnsupportedError with the kernel's message if this host cannot mount it.
    """
    made: list[int] = []
    with ExitStack() as undo:
        for mount in mounts:
            fd = _make(mount, made)
            undo.callback(os.close, fd)
            made.append(fd)
            if mount.target == "/":
                break
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=made[-1])


def open_mounted_root(namespace: int) -> int:
    """Return the root of a mount namespace, as an open folder; the caller closes it.

    It is the mount that processes there use, so an overlay's upper folder is not mounted
    a second time, and it stays valid when the namespace ends. Mounts inside the root are
    not included.
    """
    with ThreadPoolExecutor(1) as thread:  # only for this: it stays in the namespace
        return thread.submit(_copied_root, namespace).result()


def _copied_root(namespace: int) -> int:
    unshare_paths()
    setns(namespace, Namespace.MOUNT)
    there = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        root = kernel.clone_mount(there)
    finally:
        os.close(there)
    try:
        kernel.mount_setattr(root, set_=_READ_ONLY)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    finally:
        os.close(root)


def _make(mount: Mount, made: Sequence[int]) -> int:
    if mount.type == "bind":
        return kernel.open_tree(mount.source, kernel.OpenTree.CLONE)
    if mount.type == "ext4":
        with _attached(mount.source) as device:
            return _file_system(mount._replace(source=device), made)
    return _file_system(mount, made)


@contextmanager
def _attached(path: str) -> Iterator[str]:
    try:
        with attached(path) as device:
            yield device
    except OSError as error:
        said = error.strerror or str(error)
        raise UnsupportedError(f"cannot use a loop device: {said}") from error


def _file_system(mount: Mount, made: Sequence[int]) -> int:
    try:
        fd = kernel.fsopen(mount.type)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        raise UnsupportedError(f"this kernel has no file system {mount.type}") from None
    try:
        _configure(fd, mount, made)
        kernel.fsconfig_create(fd)
        return kernel.fsmount(fd, _NODEV)
    except OSError as error:
        said = kernel.fs_messages(fd) or error.strerror
        raise UnsupportedError(f"cannot mount {mount.type}: {said}") from error
    finally:
        os.close(fd)


def _configure(fd: int, mount: Mount, made: Sequence[int]) -> None:
    kernel.fsconfig_string(fd, "source", mount.source)
    for option in mount.options:
        key, equals, value = option.partition("=")
        if value.startswith(_BY_PLACE):
            number, _, name = value[len(_BY_PLACE) :].partition("/")
            _set_by_place(fd, key, made[int(number)], name)
        elif key == "lowerdir+":
            _set_folder(fd, key, value)
        elif equals:
            kernel.fsconfig_string(fd, key, value)
        else:
            kernel.fsconfig_flag(fd, key)


def _set_by_place(fd: int, key: str, place: int, name: str) -> None:
    if name:
        kernel.fsconfig_string(fd, key, f"/proc/self/fd/{place}/{name}")
    else:
        kernel.fsconfig_fd(fd, key, place)


def _set_folder(fd: int, key: str, path: str) -> None:
    """Set a folder option, by descriptor if its path is too long for fsconfig(2)."""
    if len(os.fsencode(path)) < 256:
        kernel.fsconfig_string(fd, key, path)
        return
    folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        kernel.fsconfig_fd(fd, key, folder)
    finally:
        os.close(folder)
