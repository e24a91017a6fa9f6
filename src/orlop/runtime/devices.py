"""Steps: what a container finds in /dev. runtime-spec config-linux.md, "Default Devices"."""

import contextlib
import os
import stat

from orlop.errors import InvalidArgumentError
from orlop.kernel.mount import move_mount
from orlop.kernel.paths import make_directories
from orlop.model.oci import Device
from orlop.runtime.child import Child
from orlop.runtime.filesystems import bind

_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

#: Name, major, minor; all of them character devices that anybody may use.
DEFAULT_NODES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)

LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)


def all_devices(wanted: tuple[Device, ...]) -> tuple[Device, ...]:
    """Return the default devices and *wanted*, which may replace some of them."""
    devices = {
        f"/dev/{name}": Device(type="c", path=f"/dev/{name}", major=major, minor=minor)
        for name, major, minor in DEFAULT_NODES
    }
    for device in wanted:
        if device.get("type") not in _TYPES or not device.get("path", "").startswith("/"):
            raise InvalidArgumentError(f"invalid device {device.get('path')!r}")
        devices[device["path"]] = device
    return tuple(devices.values())


def open_host_nodes(child: Child) -> None:
    """Open the host's nodes, where the kernel will not let us make our own."""
    for device in child.plan.devices:
        child.devices[device["path"]] = bind(device["path"], recursive=False)


def make_devices(child: Child) -> None:
    """Make the nodes and links of /dev; with it already a bind mount, leave it alone."""
    folders: dict[str, int] = {}
    try:
        for device in child.plan.devices:
            folder, name = os.path.split(device["path"])
            if folder not in folders:
                folders[folder] = make_directories(child.root, folder)
            if device["path"] in child.devices:
                _bind_node(folders[folder], name, child.devices.pop(device["path"]))
            else:
                _make_node(folders[folder], name, device)
        if "/dev" in folders:
            _make_links(folders["/dev"])
    finally:
        for fd in folders.values():
            os.close(fd)


def _make_node(folder: int, name: str, device: Device) -> None:
    mode = _TYPES[device["type"]] | stat.S_IMODE(device.get("fileMode", 0o666))
    number = os.makedev(device.get("major", 0), device.get("minor", 0))
    try:
        os.mknod(name, mode, number, dir_fd=folder)
    except FileExistsError:  # the image's; it may be a link, or another device
        os.unlink(name, dir_fd=folder)
        os.mknod(name, mode, number, dir_fd=folder)
    uid, gid = device.get("uid", 0), device.get("gid", 0)
    if uid or gid:
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)


def _bind_node(folder: int, name: str, node: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666, dir_fd=folder))
    target = os.open(name, _PATH, dir_fd=folder)
    move_mount(node, target)
    os.close(target)
    os.close(node)


def _make_links(folder: int) -> None:
    for name, target in LINKS:
        try:
            os.symlink(target, name, dir_fd=folder)
        except FileExistsError:
            if name == "ptmx":  # the image's would be another devpts
                os.unlink(name, dir_fd=folder)
                os.symlink(target, name, dir_fd=folder)
