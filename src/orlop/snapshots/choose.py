"""Choose the snapshot driver: by name, or the best that works on this host."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Protocol

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.snapshots.interface import Snapshots

ENTRY_POINTS = "orlop.snapshots"
_CHOICE = "chosen.json"


class Driver(Protocol):
    """Makes a driver with its folder; a class works."""

    def __call__(self, root: str, /, *, volatile: bool = False) -> Snapshots: ...

    def probe(self, root: str) -> None:
        """Try it in that folder; UnsupportedError, with the reason, if it does not work here."""


def _erofs() -> Driver:
    from orlop.snapshots.erofs import Erofs

    return Erofs


def _overlay() -> Driver:
    from orlop.snapshots.overlay import Overlay

    return Overlay


def _native() -> Driver:
    from orlop.snapshots.native import Native

    return Native


#: Best first. Each is loaded when needed, because a program needs only one.
DRIVERS: Mapping[str, Callable[[], Driver]] = {
    "erofs": _erofs,
    "overlay": _overlay,
    "native": _native,
}


def snapshots(root: str, name: str | None = None, *, volatile: bool = False) -> Snapshots:
    """Return the driver *name*, or the best one, with its layers under `ROOT/NAME`.

    The best one is found by trying, and stored in `ROOT/chosen.json` for as long as the
    kernel is the same; with another driver all layers would have to be made again.
    """
    os.makedirs(root, mode=0o700, exist_ok=True)
    if name is not None:
        _find(name).probe(os.path.join(root, name))
    return open_driver(root, name or _remembered(root) or _best(root), volatile=volatile)


def open_driver(root: str, name: str, *, volatile: bool = False) -> Snapshots:
    """Return the driver *name*, which is known to work here."""
    return _find(name)(os.path.join(root, name), volatile=volatile)


def _find(name: str) -> Driver:
    if name in DRIVERS:
        return DRIVERS[name]()
    from importlib.metadata import entry_points  # 20 ms; only for drivers in other packages

    for point in entry_points(group=ENTRY_POINTS, name=name):
        driver: Driver = point.load()
        return driver
    known = ", ".join(DRIVERS)
    raise InvalidArgumentError(
        f"no snapshot driver {name!r}", hint=f"this build has: {known}"
    ) from None


def _best(root: str) -> str:
    reasons: list[str] = []
    for name in DRIVERS:
        try:
            _find(name).probe(os.path.join(root, name))
        except UnsupportedError as error:
            reasons.append(f"{name}: {error}")
        else:
            _remember(root, name)
            return name
    raise UnsupportedError("no snapshot driver works here: " + "; ".join(reasons))


def _remembered(root: str) -> str | None:
    try:
        with open(os.path.join(root, _CHOICE), encoding="utf-8") as file:
            choice = json.load(file)
        if choice["kernel"] == os.uname().release and choice["name"] in DRIVERS:
            return str(choice["name"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return None


def _remember(root: str, name: str) -> None:
    beside = os.path.join(root, f".{_CHOICE}.{os.getpid()}")
    with open(beside, "w", encoding="utf-8") as file:
        json.dump({"kernel": os.uname().release, "name": name}, file)
    os.rename(beside, os.path.join(root, _CHOICE))
