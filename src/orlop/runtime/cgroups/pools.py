"""Pools of cgroups: spares for containers, and recycled ones for sandboxes.

A v1 cgroup is a directory in each of ten hierarchies or so, and a list of device
rules besides: 0.4 ms to make, 0.1 ms to rename, and a tenth of the first to use again.
"""

import errno
import itertools
import os

from orlop.errors import AlreadyExistsError, OrlopError
from orlop.model.light import Sequence
from orlop.model.light_context import partial, suppress
from orlop.model.oci import DeviceRule, Resources
from orlop.model.pool import ObjectPool
from orlop.runtime.cgroups import control
from orlop.runtime.cgroups.files import below
from orlop.runtime.cgroups.layout import Layout, detect
from orlop.runtime.cgroups.v1 import V1Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.runtime.cgroups.reusable import Group

_SPARE, _RECYCLED = ".spare-", ".pool-"


class SpareCgroups:
    """Up to *size* v1 cgroups below *parent*, renamed when needed.

    They have the device rules that were last asked for. A v2 cgroup cannot be renamed, so
    on a host with v2 alone the pool stays empty.
    """

    def __init__(
        self, parent: str = "/orlop", *, size: int = 4, layout: Layout | None = None
    ) -> None:
        self._parent = parent
        self._layout = layout or detect()
        self._rules: Sequence[DeviceRule] | None = None
        self._numbers = itertools.count()
        self.pool = ObjectPool[V1Cgroup](end=V1Cgroup.remove, size=size, ahead=size)

    def take(self, path: str, resources: Resources) -> V1Cgroup | None:
        """Rename a spare to *path* and set its limits; None if there is none.

        Also None if a cgroup *path* exists, or somebody has removed the spare. Raises
        as create() does, and leaves nothing behind then.
        """
        rules = resources.get("devices")
        if rules != self._rules:
            self._rules = rules
            self.pool.close()
            if rules is not None and self._layout.v1:
                self.pool.want(make=partial(self._make, rules))
        if os.path.dirname(path) != self._parent:
            return None
        spare = self.pool.take()
        if spare is None:
            return None
        limits: Resources = {**resources}
        limits.pop("devices", None)
        try:
            return spare.renamed(path, limits)
        except (FileExistsError, FileNotFoundError, AlreadyExistsError):
            return None

    def _make(self, rules: Sequence[DeviceRule]) -> V1Cgroup:
        half = Layout(self._layout.v1, None)  # a v2 directory could not be renamed
        path = f"{self._parent}/{_SPARE}{os.getpid()}-{next(self._numbers)}"
        spare = V1Cgroup.create(half, path, {"devices": list(rules)})
        return V1Cgroup(self._layout, spare.path)


class RecycledCgroups:
    """Cgroups by their limits, used by one sandbox after another; up to *size* of them wait."""

    def __init__(
        self, parent: str = "/orlop", *, size: int = 128, layout: Layout | None = None
    ) -> None:
        self._parent = parent
        self._layout = layout or detect()
        self._numbers = itertools.count()
        self.pool = ObjectPool["Group"](end=lambda group: group.remove(), reset=_reset, size=size)

    def take(self, kind: str, resources: Resources) -> "Group":
        """Return an empty cgroup with the limits *resources*, whose name is *kind*.

        Raises:
            OrlopError: as cgroups.create().
        """
        return self.pool.take(kind) or self._make(resources)

    def give_back(self, kind: str, group: "Group") -> bool:
        """Keep it for its next user or remove it; False while a process is in it."""
        try:
            if not group.clear():
                return False
            self.pool.give_back(group, kind)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            group.remove()  # the rest of it: anybody may remove an empty one
        return True

    def _make(self, resources: Resources) -> "Group":
        """Make a cgroup of the host's version; the other version's module is not imported."""
        path = f"{self._parent}/{_RECYCLED}{os.getpid()}-{next(self._numbers)}"
        if self._layout.v1:
            from orlop.runtime.cgroups.v1_group import V1Group

            return V1Group(self._layout, path, resources)
        from orlop.runtime.cgroups.v2_group import V2Group

        return V2Group(self._layout, path, resources)


def _reset(group: "Group") -> bool:
    return not group.changed and group.reset()


def sweep(parent: str = "/orlop", layout: Layout | None = None) -> None:
    """Remove the pooled cgroups of processes that have ended, and kill who is in them."""
    for hierarchy in reversed((layout or detect()).hierarchies):  # v2 first, which can kill
        for place in below(hierarchy.mountpoint + parent):
            name = os.path.basename(place)
            prefix = next((one for one in (_SPARE, _RECYCLED) if name.startswith(one)), None)
            owner = name.removeprefix(prefix or "").partition("-")[0]
            if prefix is None or not owner.isdigit() or control.alive(int(owner)):
                continue
            with suppress(OSError, OrlopError):
                control.kill_by_rounds(place)
                control.remove(place)
