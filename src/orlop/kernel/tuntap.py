"""TUN and TAP interfaces, whose other end is a descriptor. tuntap.rst, <linux/if_tun.h>."""

import enum
import fcntl
import os
import struct

_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x1000, 0x4000, 0x8000
_DEVICE = "/dev/net/tun"
_REQUEST = struct.Struct("=16sH22x")  # ifreq


class Layer(enum.IntEnum):
    """The unit that the descriptor reads and writes. <linux/if_tun.h> IFF_*."""

    PACKETS = 0x0001  # IFF_TUN
    FRAMES = 0x0002  # IFF_TAP


def make(name: str, layer: Layer, *, vnet_header: bool = False, persistent: bool = False) -> int:
    """Make the interface *name* in this thread's network namespace; return its descriptor.

    FileExistsError if the name is taken (also for EBUSY). The interface disappears with the
    descriptor; a *persistent* one with its namespace, or by links.remove().
    """
    fd = _open(name, layer | _IFF_TUN_EXCL, vnet_header=vnet_header)
    try:
        if persistent:
            fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    except BaseException:
        os.close(fd)
        raise
    return fd


def attach(name: str, layer: Layer, *, vnet_header: bool = False) -> int:
    """Return a descriptor of the persistent interface *name*, if nobody else has it open."""
    return _open(name, layer, vnet_header=vnet_header)


def _open(name: str, flags: int, *, vnet_header: bool) -> int:
    fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        flags |= _IFF_NO_PI | (_IFF_VNET_HDR if vnet_header else 0)
        fcntl.ioctl(fd, _TUNSETIFF, _REQUEST.pack(name.encode(), flags))
    except OSError as error:
        os.close(fd)
        raise OSError(error.errno, f"TUNSETIFF: {error.strerror}", name) from None
    return fd
