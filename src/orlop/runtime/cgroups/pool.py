"""Spare v1 cgroups, made while nobody waits and renamed when one is needed.

A v1 cgroup is a directory in each of ten hierarchies or so, and a list of device
rules besides: 0.4 ms to make, 0.1 ms to rename. v2 has one directory, which
cannot be renamed, so there the pool stays empty.
"""

import itertools
import os

from orlop.errors import AlreadyExistsError, OrlopError
from orlop.model.light import Sequence
from orlop.model.light_context import suppress
from orlop.model.oci import DeviceRule, Resources
from orlop.model.stock import Stock, Tally
from orlop.runtime.cgroups import control
from orlop.runtime.cgroups.files import below
from orlop.runtime.cgroups.layout import Layout, detect
from orlop.runtime.cgroups.v1 import V1Cgroup

_PREFIX = ".spare-"


class Pool:
    """Up to *size* spares below *parent*, with the device rules that were last asked for."""

    def __init__(
        self, parent: str = "/orlop", *, size: int = 4, layout: Layout | None = None
    ) -> None:
        self._parent = parent
        self._size = size
        self._layout = layout or detect()
        self._spares: list[V1Cgroup] = []
        self._rules: Sequence[DeviceRule] | None = None
        self._numbers = itertools.count()
        self._tally = Tally()

    @property
    def stock(self) -> Stock:
        """How it stands."""
        return self._tally.stock(ready=len(self._spares), most=self._size)

    def take(self, path: str, resources: Resources) -> V1Cgroup | None:
        """Return the cgroup *path* made of a spare, its limits in force; None if there is none.

        Also None where a cgroup *path* exists, or somebody has removed the spare. Raises
        as create() does, and then nothing is left.
        """
        rules = resources.get("devices")
        if rules != self._rules:
            self.close()
            self._rules = rules
        is_there = bool(self._spares) and os.path.dirname(path) == self._parent
        self._tally.count(hit=is_there)
        if not is_there:
            return None
        spare = self._spares.pop()
        limits: Resources = {**resources}
        limits.pop("devices", None)
        try:
            return spare.renamed(path, limits)
        except (FileExistsError, FileNotFoundError, AlreadyExistsError):
            return None

    def refill(self) -> bool:
        """Make one spare; return whether more are wanted.

        A refusal is not told: whoever needs a cgroup will meet it again.
        """
        if self._rules is None or not self._layout.v1 or len(self._spares) >= self._size:
            return False
        path = f"{self._parent}/{_PREFIX}{os.getpid()}-{next(self._numbers)}"
        half = Layout(self._layout.v1, None)  # a v2 directory could not be renamed
        try:
            spare = V1Cgroup.create(half, path, {"devices": list(self._rules)})
        except (OSError, OrlopError):
            return False
        self._spares.append(V1Cgroup(self._layout, spare.path))
        return len(self._spares) < self._size

    def close(self) -> None:
        """Remove the spares."""
        while self._spares:
            self._spares.pop().remove()

    def sweep(self) -> None:
        """Remove the spares of processes that are no more."""
        for hierarchy in self._layout.hierarchies:
            for place in below(hierarchy.mountpoint + self._parent):
                name = os.path.basename(place)
                owner = name.removeprefix(_PREFIX).partition("-")[0]
                if name.startswith(_PREFIX) and owner.isdigit():
                    if control.alive(int(owner)):
                        continue
                    with suppress(OSError):
                        control.remove(place, timeout_s=0)
