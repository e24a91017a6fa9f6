"""Files as block devices. loop(4), <linux/loop.h>."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CONTROL, _DEVICES = "/dev/loop-control", "/sys/block"
_GET_STATUS64, _CONFIGURE, _GET_FREE = 0x4C05, 0x4C0A, 0x4C82
_AUTOCLEAR = 4
#: struct loop_info64: device and inode of the file, of its end, offset, size limit; number,
#: encryption, flags; names and keys.
_INFO = struct.Struct("5Q 4I 64s 64s 32s 2Q")
_CONFIG = struct.Struct(f"2I {_INFO.size}s 8Q")
_OPEN = os.O_RDWR | os.O_CLOEXEC


@contextmanager
def attached(path: str) -> Iterator[str]:
    """Yield the loop device of the file *path*: its existing one, or a new one.

    A mount made in the block keeps the device; it disappears with the last mount. Other
    callers for the same file wait, because two devices would destroy the file system in it.
    """
    file = os.open(path, _OPEN)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        name, device = _find(file) or _attach(file)
        try:
            yield name
        finally:
            os.close(device)
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # the device shares the open file, and keeps the lock
        os.close(file)


def _find(file: int) -> tuple[str, int] | None:
    """Return name and descriptor of *file*'s device."""
    status = os.fstat(file)
    for name in os.listdir(_DEVICES):
        if not os.path.exists(f"{_DEVICES}/{name}/loop/backing_file"):
            continue
        device = -1
        with suppress(OSError):  # it has gone
            device = os.open(f"/dev/{name}", _OPEN)
            info = fcntl.ioctl(device, _GET_STATUS64, bytes(_INFO.size))
            if _INFO.unpack(info)[:2] == (status.st_dev, status.st_ino):
                return f"/dev/{name}", device
        if device >= 0:
            os.close(device)
    return None


def _attach(file: int) -> tuple[str, int]:
    info = _INFO.pack(*bytes(5), 0, 0, 0, _AUTOCLEAR, b"", b"", b"", 0, 0)
    control = os.open(_CONTROL, _OPEN)
    try:
        while True:
            name = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            device = os.open(name, _OPEN)
            try:
                fcntl.ioctl(device, _CONFIGURE, _CONFIG.pack(file, 0, info, *bytes(8)))
            except BaseException as error:
                os.close(device)
                if isinstance(error, OSError) and error.errno == errno.EBUSY:
                    continue  # another process took it
                raise
            return name, device
    finally:
        os.close(control)
