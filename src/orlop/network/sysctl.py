"""Sysctls of one interface under /proc/sys/net, in the namespace that this thread is in."""

import os
from collections.abc import Iterable, Mapping

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.kernel.mount import fsconfig_create, fsmount, fsopen

_IN_A_PART = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_INTERFACE = "IFNAME"
_ENOUGH_USES = 200


class Sysctl:
    """The sysctls below /proc/sys/net of the namespace that this thread is in.

    They are accessed in a /proc of our own, mounted again from time to time: the kernel keeps
    one list with an entry for each sysctl and namespace, so that after 500 containers an
    access would take 0.3 ms.
    """

    def __init__(self) -> None:
        self._uses = 0
        self._root = _new_proc()

    def close(self) -> None:
        os.close(self._root)

    def renew(self) -> None:
        """Mount a new one if it is worth it: the old one takes a millisecond to go."""
        if self._uses >= _ENOUGH_USES:
            root, self._root = self._root, _new_proc()
            self._uses = 0
            os.close(root)

    def write(self, path: str, value: str) -> None:
        """Write below /proc/sys/net; FileNotFoundError if the sysctl does not exist."""
        self._uses += 1
        fd = os.open(f"sys/net/{path}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._root)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)

    def read(self, path: str) -> str:
        """Read below /proc/sys/net; "" if the sysctl does not exist."""
        try:
            fd = os.open(f"sys/net/{path}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._root)
        except FileNotFoundError:
            return ""
        try:
            return os.read(fd, 256).decode().strip()
        finally:
            os.close(fd)

    def apply(self, settings: Iterable[tuple[str, str]]) -> None:
        """Write them; an OrlopError names the first that is missing or refused."""
        for path, value in settings:
            name = path.replace("/", ".")
            try:
                self.write(path, value)
            except FileNotFoundError as error:
                raise UnsupportedError(f"this kernel has no setting net.{name}") from error
            except OSError as error:
                raise InvalidArgumentError(
                    f"net.{name} cannot be {value!r}: {error.strerror}"
                ) from error


def parse(settings: Mapping[str, str], interface: str) -> list[tuple[str, str]]:
    """Return paths and values of "net.ipv4.conf.IFNAME.rp_filter", IFNAME meaning *interface*."""
    return [(_path(name, interface), value) for name, value in settings.items()]


def _new_proc() -> int:
    try:
        configuration = fsopen("proc")
        try:
            fsconfig_create(configuration)
            return fsmount(configuration)
        finally:
            os.close(configuration)
    except OSError:  # we may not mount here
        return os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _path(name: str, interface: str) -> str:
    first, *parts = name.split(".")
    known = all(part and _IN_A_PART.issuperset(part) for part in parts)
    if first != "net" or not known or _INTERFACE not in parts:
        raise InvalidArgumentError(
            f"{name!r} is no setting of an interface",
            hint="one looks like net.ipv4.conf.IFNAME.log_martians",
        )
    return "/".join(interface if part == _INTERFACE else part for part in parts)
