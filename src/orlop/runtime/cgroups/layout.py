"""How this host mounts its cgroup hierarchies: v1, v2, or both (hybrid)."""

import os

from orlop.errors import UnsupportedError
from orlop.model.light import NamedTuple
from orlop.model.light_context import cache

_NOT_CONTROLLERS = frozenset({"rw", "ro", "xattr", "noprefix", "clone_children", "none", "all"})
_MOUNT_FLAGS = frozenset(
    {"favordynmods", "memory_localevents", "memory_recursiveprot", "nsdelegate", "cpuset_v2_mode"}
)


class Hierarchy(NamedTuple):
    """One mounted hierarchy; *root* is the part that the mount shows ("/" for all)."""

    mountpoint: str
    root: str
    controllers: frozenset[str]


class Layout(NamedTuple):
    """The hierarchies. A named one counts as the controller "name=systemd"."""

    v1: tuple[Hierarchy, ...]
    unified: Hierarchy | None

    @property
    def mode(self) -> str:
        """Return "v1", "v2" or "hybrid"."""
        if not self.v1:
            return "v2"
        return "hybrid" if self.unified else "v1"

    @property
    def hierarchies(self) -> tuple[Hierarchy, ...]:
        """Return all of them, the unified one last."""
        return (*self.v1, self.unified) if self.unified else self.v1

    @property
    def controllers(self) -> frozenset[str]:
        """Return the controllers that are available here."""
        return frozenset().union(*(hierarchy.controllers for hierarchy in self.hierarchies))


@cache
def detect() -> Layout:
    """Return this host's layout, read once per process.

    Raises:
        UnsupportedError: no cgroup hierarchy is mounted.
    """
    layout = read_layout()
    if not layout.hierarchies:
        raise UnsupportedError(
            "no cgroup hierarchy is mounted", hint="mount -t cgroup2 none /sys/fs/cgroup"
        )
    return layout


def own_directories() -> dict[str, str]:
    """Return the folders of our own cgroup, by hierarchy, like Cgroup.directories.

    One that no mount shows is left out. proc_pid_cgroup(5).
    """
    layout = detect()
    places = {hierarchy.controllers: hierarchy for hierarchy in layout.v1}
    found = {}
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            place = places.get(frozenset(names.split(","))) if names else layout.unified
            if place is not None and (path + "/").startswith(place.root.rstrip("/") + "/"):
                found[names] = (place.mountpoint + path[len(place.root.rstrip("/")) :]).rstrip("/")
    return found


def counts_swap(layout: Layout | None = None) -> bool:
    """Whether the kernel limits swap: that may be compiled out or switched off."""
    layout = layout or detect()
    for hierarchy in layout.v1:
        if "memory" in hierarchy.controllers:
            return os.path.exists(f"{hierarchy.mountpoint}/memory.memsw.limit_in_bytes")
    if layout.unified is None or "memory" not in layout.unified.controllers:
        return False
    with os.scandir(layout.unified.mountpoint) as entries:  # the root itself has no limits
        for entry in entries:
            if os.path.exists(f"{entry.path}/memory.max"):
                return os.path.exists(f"{entry.path}/memory.swap.max")
    return True


def read_layout(mountinfo: str = "/proc/self/mountinfo") -> Layout:
    """Parse *mountinfo*; the first mount of a hierarchy counts. proc_pid_mountinfo(5)."""
    v1: dict[frozenset[str], Hierarchy] = {}
    unified: Hierarchy | None = None
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.rstrip("\n").partition(" - ")
            kind, _, rest = right.partition(" ")
            if kind not in ("cgroup", "cgroup2"):
                continue
            root, mountpoint = (unescape(field) for field in left.split(" ")[3:5])
            if kind == "cgroup2":
                unified = unified or _unified(mountpoint, root)
                continue
            names = _controllers(rest.rpartition(" ")[2])
            v1.setdefault(names, Hierarchy(mountpoint, root, names))
    return Layout(tuple(v1.values()), unified)


def _controllers(super_options: str) -> frozenset[str]:
    words = super_options.split(",")
    return frozenset(
        word
        for word in words
        if word not in _NOT_CONTROLLERS
        and word not in _MOUNT_FLAGS
        and not word.startswith(("release_agent=", "uid=", "gid=", "mode="))
    )


def _unified(mountpoint: str, root: str) -> Hierarchy:
    try:
        with open(f"{mountpoint}/cgroup.controllers", encoding="utf-8") as file:
            names = frozenset(file.read().split())
    except OSError:  # a mount covered by another one, or of a foreign namespace
        names = frozenset()
    return Hierarchy(mountpoint, root, names)


def unescape(field: str) -> str:
    """Undo the kernel's octal escapes of blank, tab, newline and backslash."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
