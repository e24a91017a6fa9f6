"""Steps: the files in a container's /dev. runtime-spec config-linux.md, "Default Devices"."""

import errno
import os
import stat

from orlop.errors import InvalidArgumentError
from orlop.kernel.mount import move_mount
from orlop.kernel.paths import change_mode_of, make_directories
from orlop.model.light import Sequence
from orlop.model.light_context import suppress
from orlop.model.oci import Device
from orlop.runtime.child import Child
from orlop.runtime.failure import StepError
from orlop.runtime.filesystems import bind
from orlop.runtime.users import MOST_ID

_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

#: Name, major, minor; all are character devices that everybody may use.
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


_DEFAULTS = {
    f"/dev/{name}": Device(type="c", path=f"/dev/{name}", major=major, minor=minor)
    for name, major, minor in DEFAULT_NODES
}
_MOST_MAJOR, _MOST_MINOR = (1 << 12) - 1, (1 << 20) - 1


def all_devices(wanted: Sequence[Device]) -> tuple[Device, ...]:
    """Return the default devices and *wanted*, which may replace some of them."""
    devices = {**_DEFAULTS}
    for index, device in enumerate(wanted):
        _check(device, f"linux.devices[{index}]")
        devices[device["path"]] = device
    return tuple(devices.values())


def _check(device: Device, where: str) -> None:
    kind, path = device.get("type", ""), device.get("path", "")
    if kind not in _TYPES:
        raise InvalidArgumentError(f"{where}.type {kind!r} is not one of c, b, u and p")
    if not path.startswith("/") or os.path.basename(path) in ("", ".", ".."):
        raise InvalidArgumentError(f"{where}.path {path!r} is not absolute, or names no file")
    for field, most in (("major", _MOST_MAJOR), ("minor", _MOST_MINOR)):
        if kind != "p" and not 0 <= device.get(field, -1) <= most:  # type: ignore[operator] # an int
            raise InvalidArgumentError(f"{where}.{field} is missing, or not up to {most}")
    for number in (device.get("uid", 0), device.get("gid", 0)):
        if not 0 <= number <= MOST_ID:
            raise InvalidArgumentError(f"{where}: {number} is no id", hint=f"0 to {MOST_ID} are")
    if not 0 <= device.get("fileMode", 0) < 1 << 16:
        raise InvalidArgumentError(f"{where}.fileMode is no file mode")


def open_host_nodes(child: Child) -> None:
    """Open the host's nodes, if the kernel does not let us make our own."""
    for device in child.plan.devices:
        if device["type"] != "p":
            child.devices[device["path"]] = bind(_host_path(device), recursive=False)


def _host_path(device: Device) -> str:
    """Return the host's path of this device: the same name, or the kernel's name for it."""
    path, number = device["path"], os.makedev(device["major"], device["minor"])
    kind = _TYPES[device["type"]]
    if path in _DEFAULTS or _is_device(path, kind, number):
        return path
    folder = "block" if kind == stat.S_IFBLK else "char"
    try:
        with open(f"/sys/dev/{folder}/{device['major']}:{device['minor']}/uevent") as file:
            names = [
                line[len("DEVNAME=") :].strip() for line in file if line.startswith("DEVNAME=")
            ]
    except OSError:
        names = []
    for name in names:
        if _is_device(f"/dev/{name}", kind, number):
            return f"/dev/{name}"
    raise StepError(f"the host has no device for {path!r} that could be shown", number=errno.ENODEV)


def _is_device(path: str, kind: int, number: int) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_IFMT(status.st_mode) == kind and status.st_rdev == number


def make_devices(child: Child) -> None:
    """Make the nodes and links of /dev; leave /dev alone if it is a bind mount."""
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


def node_of(device: Device) -> tuple[int, int]:
    """Return mode and device number for mknod(2)."""
    mode = _TYPES[device["type"]] | stat.S_IMODE(device.get("fileMode", 0o666))
    return mode, os.makedev(device.get("major", 0), device.get("minor", 0))


def _make_node(folder: int, name: str, device: Device) -> None:
    mode, number = node_of(device)
    try:
        os.mknod(name, mode, number, dir_fd=folder)
    except FileExistsError:  # from the image; it may be a link, or another device
        if device["path"] in _DEFAULTS:
            os.unlink(name, dir_fd=folder)
            os.mknod(name, mode, number, dir_fd=folder)
        else:
            _take_over(folder, name, mode, number)
    uid, gid = device.get("uid", 0), device.get("gid", 0)
    if uid or gid:
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)


def _take_over(folder: int, name: str, mode: int, number: int) -> None:
    """Use an existing node if it is the right device. config-linux.md, "Devices"."""
    found = os.open(name, _PATH, dir_fd=folder)
    try:
        status = os.fstat(found)
        same = stat.S_IFMT(status.st_mode) == stat.S_IFMT(mode)
        if not same or (status.st_rdev != number and not stat.S_ISFIFO(mode)):
            raise StepError(f"another file is already where device {name!r} is to be")
        if stat.S_IMODE(status.st_mode) != stat.S_IMODE(mode):
            change_mode_of(found, stat.S_IMODE(mode))
    finally:
        os.close(found)


def _bind_node(folder: int, name: str, node: int) -> None:
    with suppress(FileNotFoundError):
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
            if name == "ptmx":  # the image's would belong to another devpts
                os.unlink(name, dir_fd=folder)
                os.symlink(target, name, dir_fd=folder)
