"""What process 1 of a virtual machine does before it serves: file systems, modules, the channel."""

import fcntl
import os
from contextlib import suppress

from orlop.kernel import light_ctypes as ctypes
from orlop.kernel.mount import MountFlag, mount
from orlop.kernel.syscall import bind, bind_number, by_machine

#: The name of the virtio-serial port on which the host speaks.
PORT = "orlop.agent"
_PORTS = "/sys/class/virtio-ports"
_MODULES = "/modules"
_ROOT = "/root"
_MOUNTS = (
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
    ("cgroup2", "/sys/fs/cgroup"),
)
_DISKS = ("/dev/vda", "/dev/vdb")
_BLKFLSBUF = 0x1261  # <linux/fs.h>
_POWER_OFF = 0x01234567  # RB_AUTOBOOT: QEMU runs with -no-reboot, and this needs no ACPI

_finit_module = bind_number(
    "finit_module",
    by_machine(x86_64=313, aarch64=273),
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
)
_reboot = bind("reboot", ctypes.c_int)


def set_up() -> None:
    """Mount the kernel's file systems, load the modules of the image, and make the root our own."""
    _leave_first_root()
    while os.open("/dev/null", os.O_RDWR) < 2:
        pass  # a machine without a console starts process 1 without standard streams
    for kind, place in _MOUNTS:
        mount(kind, place, fstype=kind)
    for name in sorted(os.listdir(_MODULES)) if os.path.isdir(_MODULES) else []:
        fd = os.open(f"{_MODULES}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _finit_module(fd, b"", 0, path=name)
        except OSError as error:
            complain(str(error))
        finally:
            os.close(fd)
    for disk in _DISKS:
        _forget_contents(disk)


def _leave_first_root() -> None:
    """Move to a mount above the kernel's first root file system, which no pivot_root(2) leaves."""
    os.makedirs(_ROOT, exist_ok=True)
    mount("/", _ROOT, flags=MountFlag.BIND)
    os.chdir(_ROOT)
    mount(_ROOT, "/", flags=MountFlag.MOVE)
    os.chroot(".")


def _forget_contents(disk: str) -> None:
    """Drop what the kernel has read of *disk*: a clone finds another one in its place."""
    with suppress(FileNotFoundError):
        fd = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _BLKFLSBUF)
        finally:
            os.close(fd)


def open_channel() -> int:
    """Return the descriptor of the port to the host. Raises FileNotFoundError if there is none."""
    for device in os.listdir(_PORTS):
        with open(f"{_PORTS}/{device}/name") as file:
            if file.read().strip() == PORT:
                return os.open(f"/dev/{device}", os.O_RDWR | os.O_CLOEXEC)
    raise FileNotFoundError(f"no port named {PORT}")


def complain(text: str) -> None:
    """Write a line to the kernel's log, which the console shows where there is one."""
    with suppress(OSError), open("/dev/kmsg", "w") as log:
        log.write(f"<2>{text}\n")


def power_off() -> None:
    """End the machine."""
    _reboot(_POWER_OFF)
