"""Choose the network driver, by name."""

from collections.abc import Callable, Mapping
from typing import Protocol

from orlop.errors import InvalidArgumentError
from orlop.network.interface import Driver
from orlop.network.namespace import Home

ENTRY_POINTS = "orlop.networks"


class Maker(Protocol):
    """Makes a driver; a class works. *engine* is 8 hex digits, for aliases (ownership.py)."""

    def __call__(self, home: Home, engine: str, /) -> Driver: ...


def _bridge() -> Maker:
    from orlop.network.bridge import Bridge

    return Bridge


def _vxlan() -> Maker:
    from orlop.network.vxlan import Vxlan

    return Vxlan


def _macvlan() -> Maker:
    from orlop.network.macvlan import Macvlan

    return Macvlan


def _tap() -> Maker:
    from orlop.network.tap import Tap

    return Tap


def _tun() -> Maker:
    from orlop.network.tun import Tun

    return Tun


#: Each is loaded when needed.
DRIVERS: Mapping[str, Callable[[], Maker]] = {
    "bridge": _bridge,
    "macvlan": _macvlan,
    "tap": _tap,
    "tun": _tun,
    "vxlan": _vxlan,
}


def driver(name: str, home: Home, engine: str) -> Driver:
    """Return driver *name*, built in or from another package."""
    return _find(name)(home, engine)


def _find(name: str) -> Maker:
    if name in DRIVERS:
        return DRIVERS[name]()
    from importlib.metadata import entry_points  # 20 ms; only for drivers in other packages

    for point in entry_points(group=ENTRY_POINTS, name=name):
        found: Maker = point.load()
        return found
    known = ", ".join(DRIVERS)
    raise InvalidArgumentError(f"no network driver {name!r}", hint=f"this build has: {known}")
