"""Network namespaces with nothing but a loopback, made ahead and used again.

Making one takes 0.8 ms, and the kernel needs as long to remove it. A namespace in which
nothing was ever sent and no socket is left is as good as new: without CAP_NET_ADMIN
nobody can change anything else of it.
"""

import os

from orlop.kernel.loopback import raise_loopback
from orlop.kernel.namespaces import Namespace, setns, unshare
from orlop.model.pool import ObjectPool
from orlop.runtime.filesystems import filesystem
from orlop.runtime.options import Options

Sysctls = tuple[tuple[str, str], ...]

_READ = os.O_RDONLY | os.O_CLOEXEC
_SENT = "class/net/lo/statistics/tx_packets"
_NONE_USED = b"sockets: used 0\n"


class Network:
    """One namespace: *fd*, and *system*, a detached mount of the sysfs that shows it."""

    def __init__(self, sysctls: Sysctls) -> None:
        """Make it. OSError; nothing is left then. Only for a process without threads."""
        self.sysctls = sysctls
        self._opened: list[int] = []
        host = os.open("/proc/self/ns/net", _READ)
        try:
            unshare(Namespace.NET)
            try:
                self._fill()
            except BaseException:
                self.close()
                raise
            finally:
                setns(host, Namespace.NET)
        finally:
            os.close(host)

    def _fill(self) -> None:
        raise_loopback()
        _set(self.sysctls)
        self.fd = self._keep(os.open("/proc/self/ns/net", _READ))
        self.system = self._keep(filesystem("sysfs", "sysfs", Options()))
        self._sockets = self._keep(os.open("/proc/thread-self/net/sockstat", _READ))
        self._sent = self._keep(os.open(_SENT, _READ, dir_fd=self.system))

    def _keep(self, fd: int) -> int:
        self._opened.append(fd)
        return fd

    def is_untouched(self) -> bool:
        """Whether nothing was sent in it and it has no socket, wherever that may be."""
        if os.pread(self._sent, 32, 0) != b"0\n":
            return False
        return os.pread(self._sockets, len(_NONE_USED), 0) == _NONE_USED

    def hand_over(self) -> tuple[int, int]:
        """Return *fd* and *system*, which are the caller's from now on."""
        given = self.fd, self.system
        self._opened = [fd for fd in self._opened if fd not in given]
        self.close()
        return given

    def close(self) -> None:
        """Let go of it; it ends with the last process and socket in it."""
        while self._opened:
            os.close(self._opened.pop())


def sysfs_of(network: int, sysctls: Sysctls) -> int:
    """Set *sysctls* in a network namespace, and return a mount of the sysfs that shows it."""
    host = os.open("/proc/self/ns/net", _READ)
    try:
        setns(network, Namespace.NET)
        try:
            _set(sysctls)
            return filesystem("sysfs", "sysfs", Options())
        finally:
            setns(host, Namespace.NET)
    finally:
        os.close(host)


def _set(sysctls: Sysctls) -> None:
    for path, value in sysctls:
        with open(f"/proc/sys/{path}", "w") as file:
            file.write(value)


def pool(*, size: int = 128, ahead: int = 2) -> ObjectPool[Network]:
    """Return a pool of namespaces by their sysctls."""
    return ObjectPool(end=Network.close, reset=Network.is_untouched, size=size, ahead=ahead)
