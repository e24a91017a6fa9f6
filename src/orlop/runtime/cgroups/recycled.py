"""Cgroups that are used again: to make one costs ten times what its next use does."""

import errno
import itertools
import os
from contextlib import suppress

from orlop.errors import OrlopError
from orlop.model.oci import Resources
from orlop.model.stock import Stock, Tally
from orlop.runtime.cgroups import control
from orlop.runtime.cgroups.files import below
from orlop.runtime.cgroups.layout import Layout, detect
from orlop.runtime.cgroups.reusable import Group

_PREFIX = ".pool-"


class Recycled:
    """Cgroups by their limits; up to *size* of all kinds wait for their next use."""

    def __init__(
        self, parent: str = "/orlop", *, size: int = 128, layout: Layout | None = None
    ) -> None:
        self._parent = parent
        self._size = size
        self._layout = layout or detect()
        self._waiting: dict[str, list[Group]] = {}
        self._numbers = itertools.count()
        self._tally = Tally()

    @property
    def stock(self) -> Stock:
        """How it stands."""
        return self._tally.stock(ready=self.waiting, most=self._size)

    @property
    def waiting(self) -> int:
        """How many are ready."""
        return sum(map(len, self._waiting.values()))

    def take(self, kind: str, resources: Resources) -> Group:
        """Return an empty cgroup with the limits *resources*, of which *kind* is the name.

        Raises:
            OrlopError: as cgroups.create().
        """
        waiting = self._waiting.setdefault(kind, [])
        self._tally.count(hit=bool(waiting))
        if waiting:
            return waiting.pop()
        path = f"{self._parent}/{_PREFIX}{os.getpid()}-{next(self._numbers)}"
        return _make(self._layout, path, resources)

    def give_back(self, kind: str, group: Group) -> bool:
        """Keep it for the next, or remove it; False while somebody is in it yet."""
        try:
            if not group.clear():
                return False
            waiting = self._waiting.get(kind)
            is_new = waiting is not None and not group.changed and group.reset()
            if waiting is not None and is_new and self._has_room(waiting):
                waiting.append(group)
                return True
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
        group.remove()  # or what is left of it: it was empty, and anybody may remove such
        return True

    def _has_room(self, waiting: list[Group]) -> bool:
        """Whether one more may be *waiting*; one of the kind with most of them makes way."""
        if self.waiting < self._size:
            return True
        most = max(self._waiting.values(), key=len)
        if len(most) <= len(waiting) + 1:
            return False
        most.pop().remove()
        return True

    def forget(self, kind: str) -> None:
        """Remove those with limits that nobody asks for any more, and what is given back later."""
        for group in self._waiting.pop(kind, ()):
            group.remove()

    def close(self) -> None:
        """Remove all that wait."""
        for kind in list(self._waiting):
            self.forget(kind)

    def sweep(self) -> None:
        """Remove the cgroups of processes that are no more, with who is in them."""
        for hierarchy in reversed(self._layout.hierarchies):  # v2 first, which can kill
            for place in below(hierarchy.mountpoint + self._parent):
                name = os.path.basename(place)
                owner = name.removeprefix(_PREFIX).partition("-")[0]
                if not name.startswith(_PREFIX) or not owner.isdigit():
                    continue
                if control.alive(int(owner)):
                    continue
                with suppress(OSError, OrlopError):
                    control.kill_by_rounds(place)
                    control.remove(place)


def _make(layout: Layout, path: str, resources: Resources) -> Group:
    """Make one of the host's kind; the other is not even imported."""
    if layout.v1:
        from orlop.runtime.cgroups.v1_group import V1Group

        return V1Group(layout, path, resources)
    from orlop.runtime.cgroups.v2_group import V2Group

    return V2Group(layout, path, resources)
