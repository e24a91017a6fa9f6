"""The host's switches (sysctls) that container networks need, and what they must not open.

Forwarding is switched on when a network first needs it. From then on the host would
forward for its neighbours too, so the interfaces it had then are remembered, and the
table keeps them from forwarding to each other. The memory is in the run folder, which
a reboot empties, as it resets the switches.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orlop.errors import UnsupportedError

_NET = Path("/proc/sys/net")
_SWITCHES = {4: _NET / "ipv4/ip_forward", 6: _NET / "ipv6/conf/all/forwarding"}
_INTERFACES = {4: _NET / "ipv4/conf", 6: _NET / "ipv6/conf"}
_NO_INTERFACES = {"all", "default", "lo"}


class Forwarding:
    """Forwarding of one host, on behalf of one engine, whose *memory* is a file."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self.guarded: dict[int, list[str]] = {4: [], 6: []}
        with suppress(FileNotFoundError):
            for line in memory.read_text().splitlines():
                version, _, name = line.partition(" ")
                if version in {"4", "6"} and name:
                    self.guarded[int(version)].append(name)

    def lacking(self, versions: Iterable[int]) -> list[int]:
        """Return those of the IP *versions* that this host does not forward."""
        return [version for version in versions if _is_off(version)]

    def remember(self, versions: Iterable[int], ours: Iterable[str]) -> None:
        """Guard the interfaces there are, but for *ours*, which enable() would open."""
        for version in versions:
            names = set(os.listdir(_INTERFACES[version])) - _NO_INTERFACES - {*ours}
            self.guarded[version] = sorted(names)
        lines = [f"{version} {name}\n" for version, names in self.guarded.items() for name in names]
        beside = self._memory.with_suffix(".new")
        beside.write_text("".join(lines))
        beside.replace(self._memory)

    def enable(self, versions: Iterable[int]) -> None:
        """Switch forwarding on. UnsupportedError where this host does not let us."""
        for version in versions:
            if version == 6:
                _keep_router_advertisements()
            _write(_SWITCHES[version], "1")


def allow_loopback(bridge: str) -> None:
    """Let answers to 127.0.0.0/8 come in by *bridge*; the table drops what is none."""
    with suppress(FileNotFoundError):
        _write(_INTERFACES[4] / bridge / "route_localnet", "1")


def refuse_advertisements(bridge: str) -> None:
    """Do not let containers behind *bridge* give the host routes or addresses."""
    with suppress(FileNotFoundError):
        _write(_INTERFACES[6] / bridge / "accept_ra", "0")


def _keep_router_advertisements() -> None:
    """Let interfaces that learn their routes from a router still do so when they forward.

    1 means "unless forwarding", 2 means "even then".
    """
    for name in set(os.listdir(_INTERFACES[6])) - _NO_INTERFACES:
        with suppress(FileNotFoundError):
            folder = _INTERFACES[6] / name
            if (folder / "accept_ra").read_text() == "1\n" and (
                folder / "forwarding"
            ).read_text() == "0\n":
                _write(folder / "accept_ra", "2")


def _is_off(version: int) -> bool:
    try:
        return _SWITCHES[version].read_text().strip() == "0"
    except FileNotFoundError:
        raise UnsupportedError(f"this host's kernel has no IPv{version}") from None


def _write(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsupportedError(
            f"cannot set {path} to {value}: {os.strerror(error.errno or 0)}"
        ) from error
