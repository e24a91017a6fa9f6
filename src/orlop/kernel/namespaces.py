"""Namespaces: making, joining, and the names they hold. namespaces(7)."""

import fcntl
import os

from orlop.kernel.light_ctypes import c_char_p, c_int, c_size_t
from orlop.kernel.syscall import bind
from orlop.model.light_enum import STRICT, IntFlag


class Namespace(IntFlag, boundary=STRICT):
    """The kinds of namespace. <linux/sched.h> CLONE_NEW*."""

    TIME = 0x00000080
    MOUNT = 0x00020000
    CGROUP = 0x02000000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NET = 0x40000000


#: The kinds, as /proc/PID/ns calls them.
FILES: dict[Namespace, str] = {
    Namespace.PID: "pid",
    Namespace.NET: "net",
    Namespace.MOUNT: "mnt",
    Namespace.IPC: "ipc",
    Namespace.UTS: "uts",
    Namespace.USER: "user",
    Namespace.CGROUP: "cgroup",
    Namespace.TIME: "time",
}

_CLONE_FS = 0x00000200
_NS_GET_NSTYPE = 0xB703

_unshare = bind("unshare", c_int)
_setns = bind("setns", c_int, c_int)
_sethostname = bind("sethostname", c_char_p, c_size_t)
_setdomainname = bind("setdomainname", c_char_p, c_size_t)


def unshare(namespaces: Namespace) -> None:
    """Leave the *namespaces* for new ones; PID and TIME only for children. unshare(2)."""
    _unshare(namespaces)


def unshare_paths() -> None:
    """Give this thread a root and a working directory of its own. unshare(2), CLONE_FS."""
    _unshare(_CLONE_FS)


def kind_of(fd: int) -> Namespace | None:
    """Return the kind of the namespace *fd*, None if it is none. ioctl_nsfs(2), NS_GET_NSTYPE."""
    try:
        return Namespace(fcntl.ioctl(fd, _NS_GET_NSTYPE))
    except OSError:
        return None


def setns(fd: int, namespaces: Namespace) -> None:
    """Join the namespace *fd* (of one kind), or those of the process behind a pidfd. setns(2).

    A pidfd joins all named kinds at once, or none. Linux 5.8.
    """
    _setns(fd, namespaces)


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace, at most 64 bytes."""
    data = os.fsencode(name)
    _sethostname(data, len(data), path=name)


def setdomainname(name: str) -> None:
    """Set the NIS domain name of this UTS namespace, at most 64 bytes."""
    data = os.fsencode(name)
    _setdomainname(data, len(data), path=name)
