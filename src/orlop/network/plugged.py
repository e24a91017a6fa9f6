"""A network namespace that was set up ahead, and can be checked for changes since."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress

from orlop.kernel.mount import fsconfig_create, fsmount, fsopen
from orlop.kernel.sockdiag import forget_ended
from orlop.network.namespace import Home

_READ = os.O_RDONLY | os.O_CLOEXEC
_SOCKETS = "/proc/thread-self/net/sockstat"
_NONE_USED = b"sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 "
_REMEMBERED = re.compile(rb" tw [1-9]")


class Plugged:
    """*fd* is the namespace, and *system* a detached sysfs mount that shows it."""

    def __init__(
        self, home: Home, namespace: int, interface: str, sysctls: Mapping[str, str]
    ) -> None:
        """Take a *namespace* with an *interface*, and set *sysctls* there: "net.ipv4.…".

        The namespace is closed with this object, unless making the object fails.
        """
        self._opened: list[int] = []
        try:
            with home.inside(namespace):
                home.sysctl.apply(
                    (name.removeprefix("net.").replace(".", "/"), value)
                    for name, value in sysctls.items()
                )
                self.system = self._keep(_sysfs())
                self._sockets = self._keep(os.open(_SOCKETS, _READ))
            sent = f"class/net/{interface}/statistics/tx_packets"
            self._sent = self._keep(os.open(sent, _READ, dir_fd=self.system))
        except BaseException:
            self.close()
            raise
        self.fd = self._keep(namespace)

    def _keep(self, fd: int) -> int:
        self._opened.append(fd)
        return fd

    def is_quiet(self) -> bool:
        """Whether it has no socket left, in any process, and no closed TCP connection."""
        return os.pread(self._sockets, len(_NONE_USED), 0) == _NONE_USED

    def calm(self, home: Home) -> bool:
        """Make TCP forget closed connections; return whether it is quiet now."""
        if _REMEMBERED.search(os.pread(self._sockets, 100, 0)):
            with home.inside(self.fd), suppress(OSError):  # a kernel that cannot
                forget_ended()
        return self.is_quiet()

    def sent(self) -> int | None:
        """Return how many packets its interface has sent; None if it was removed."""
        try:
            return int(os.pread(self._sent, 32, 0))
        except OSError:
            return None

    def close(self) -> None:
        """Release it; it ends with the last process and socket in it."""
        while self._opened:
            os.close(self._opened.pop())


def _sysfs() -> int:
    configuration = fsopen("sysfs")
    try:
        fsconfig_create(configuration)
        return fsmount(configuration)
    finally:
        os.close(configuration)
