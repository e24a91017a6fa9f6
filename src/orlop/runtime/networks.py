"""Network namespaces with nothing but a loopback, made ahead and used again.

To make one costs 0.8 ms, and the kernel as much again to take it away. One in which nothing
was ever sent and no socket is left is as it was made: nobody without CAP_NET_ADMIN can
change anything else of it.
"""

import os
from contextlib import suppress

from orlop.kernel.loopback import raise_loopback
from orlop.kernel.namespaces import Namespace, setns, unshare
from orlop.model.stock import Stock, Tally
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
        for path, value in self.sysctls:
            with open(f"/proc/sys/{path}", "w") as file:
                file.write(value)
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

    def close(self) -> None:
        """Let go of it; it ends with the last process and socket in it."""
        while self._opened:
            os.close(self._opened.pop())


class Networks:
    """Up to *size* namespaces that wait, of which at least *ahead* are made while nobody waits."""

    def __init__(self, *, size: int = 128, ahead: int = 2) -> None:
        self._size = size
        self._ahead = ahead
        self._waiting: dict[Sysctls, list[Network]] = {}
        self._tally = Tally()

    @property
    def stock(self) -> Stock:
        """How it stands; its bound is for those with the same settings."""
        return self._tally.stock(ready=self.waiting, most=self._size)

    @property
    def waiting(self) -> int:
        """How many are ready."""
        return sum(map(len, self._waiting.values()))

    def take(self, sysctls: Sysctls) -> Network:
        """Return one that is as new; made now if none waits. OSError."""
        waiting = self._waiting.setdefault(sysctls, [])
        self._tally.count(hit=bool(waiting))
        return waiting.pop() if waiting else Network(sysctls)

    def give_back(self, network: Network, *, trusted: bool) -> None:
        """Keep it for the next, if it is as new. Not *trusted*: its user could change anything."""
        waiting = self._waiting.get(network.sysctls)
        if waiting is None or not trusted or len(waiting) >= self._size:
            network.close()
        elif network.is_untouched():
            waiting.append(network)
        else:
            network.close()

    def forget(self, sysctls: Sysctls) -> None:
        """Let go of those that nobody asks for any more, and of what is given back later."""
        for network in self._waiting.pop(sysctls, ()):
            network.close()

    def refill(self) -> bool:
        """Make one where too few wait; return whether more are wanted."""
        for sysctls, waiting in self._waiting.items():
            if len(waiting) < self._ahead:
                with suppress(OSError):
                    waiting.append(Network(sysctls))
                    return True
        return False

    def close(self) -> None:
        """Let go of all."""
        for waiting in self._waiting.values():
            while waiting:
                waiting.pop().close()
