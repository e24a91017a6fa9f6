"""The host's sysctls for container networks, without opening the host to others.

Forwarding is switched on when a network first needs it. It would make the host forward for
its neighbours too, so the interfaces that it had at that time are recorded, and the table
keeps them from forwarding to each other. The record is in the run folder, because a reboot
resets the sysctls too.
"""

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from orlop.errors import UnsupportedError
from orlop.kernel.netlink import routes
from orlop.kernel.netlink.connection import Netlink

_NET = Path("/proc/sys/net")
_SWITCHES = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
_NO_INTERFACES = {"all", "default", "lo"}
_METRIC = 4096  # higher than that of the kernel's own route to ::1, which is 0

#: Interfaces by IP version.
Guarded = Mapping[int, Sequence[str]]


class Forwarding:
    """Forwarding on one host, for one engine, whose *memory* is a file."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self.guarded: Guarded = _read(memory)

    def lacking(self, versions: Iterable[int]) -> list[int]:
        """Return those IP *versions* that this host does not forward."""
        return [version for version in versions if _setting(_SWITCHES[version]) == "0"]

    def plan(self, versions: Iterable[int], ours: Iterable[str]) -> Guarded:
        """Return the interfaces to guard when *versions* are switched on: all except *ours*."""
        known = _NO_INTERFACES | {*ours}
        there = {
            version: sorted(set(os.listdir(_NET / f"ipv{version}/conf")) - known)
            for version in versions
        }
        return {**self.guarded, **there}

    def switch_on(self, versions: Sequence[int], guarded: Guarded) -> None:
        """Forward *versions*; *guarded* are guarded already. UnsupportedError if not possible."""
        if not versions:
            return
        beside = self._memory.with_suffix(".new")
        beside.write_text(
            "".join(f"{version} {name}\n" for version, names in guarded.items() for name in names)
        )
        beside.replace(self._memory)
        self.guarded = guarded
        for version in versions:
            if version == 6:
                _keep_router_advertisements()
            _write(_SWITCHES[version], "1")


def allow_loopback(bridge: str) -> None:
    """Accept answers to 127.0.0.0/8 and ::1 from *bridge*; if it is gone, do nothing.

    The table drops other packets for 127.0.0.0/8, and the kernel those for ::1.
    """
    with suppress(FileNotFoundError):
        _write(f"ipv4/conf/{bridge}/route_localnet", "1")
    if _setting(f"ipv6/conf/{bridge}/disable_ipv6") == "0":
        with suppress(OSError), Netlink() as netlink:
            netlink.ask(routes.add_local("::1", socket.if_nametoindex(bridge), _METRIC))


def bridges_filter_ipv6() -> bool:
    """Whether bridged IPv6 packets pass through the host's rules, too."""
    return _setting("bridge/bridge-nf-call-ip6tables") == "1"


def _read(memory: Path) -> Guarded:
    found: dict[int, list[str]] = {4: [], 6: []}
    with suppress(FileNotFoundError):
        for line in memory.read_text().splitlines():
            version, _, name = line.partition(" ")
            if version in {"4", "6"} and name:
                found[int(version)].append(name)
    return found


def _keep_router_advertisements() -> None:
    """Let interfaces that get routes from a router do so even when the host forwards.

    1 means "unless forwarding", 2 means "even then".
    """
    for name in set(os.listdir(_NET / "ipv6/conf")) - _NO_INTERFACES:
        folder = f"ipv6/conf/{name}"
        if _setting(f"{folder}/accept_ra") == "1" and _setting(f"{folder}/forwarding") == "0":
            with suppress(FileNotFoundError):
                _write(f"{folder}/accept_ra", "2")


def _setting(path: str) -> str:
    """Return a sysctl's value, "" if it does not exist."""
    try:
        return (_NET / path).read_text().strip()
    except FileNotFoundError:
        return ""


def _write(path: str, value: str) -> None:
    try:
        (_NET / path).write_text(value)
    except FileNotFoundError:
        raise
    except OSError as error:
        name = path.replace("/", ".")
        raise UnsupportedError(f"cannot set net.{name} to {value}: {error.strerror}") from error
