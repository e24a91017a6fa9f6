"""A run's own view of files: the template's, with a writable layer that ends with the run.

Everything is made in the run's mount namespace, below a tmpfs that covers /proc:

    /proc/u, w     the run's writes: the upper layer of an overlay over the template's root
    /proc/r        that overlay; later /
    /proc/r/…      the template's mounts: bound again, but each tmpfs is a new and empty one
"""

from __future__ import annotations

import os
from contextlib import suppress

from orlop.zygote import calls

_NEW = "/proc/r"
_LAYERS = "lowerdir=/,upperdir=/proc/u,workdir=/proc/w,userxattr"
_SCRATCH = ("/tmp", "/var/tmp", "/run", "/root", "/home")  # if no layer is possible
_SAFE = calls.NOSUID | calls.NODEV | calls.NOEXEC
_TREES = ("/dev", "/sys")  # with everything below, and read-only: prepare() makes them so
_PRIVATE = ("/dev/shm", "/dev/mqueue", "/dev/pts")


class Mounted:
    """One line of /proc/self/mountinfo. proc_pid_mountinfo(5)."""

    def __init__(self, line: str) -> None:
        fields, _, rest = line.partition(" - ")
        words = fields.split(" ")
        self.number = int(words[0])
        self.root = words[3]
        self.path = words[4].encode().decode("unicode_escape").encode("latin-1").decode()
        self.options = words[5].split(",")
        self.kind = rest.split(" ")[0]
        self.is_folder = os.path.isdir(self.path)

    @property
    def is_scratch(self) -> bool:
        """Whether it is a tmpfs of the template's, and shows nothing of the machine's."""
        return self.kind == "tmpfs" and self.root == "/" and self.is_folder

    @property
    def flags(self) -> int:
        """Return the flags that a mount in its place must have too."""
        known = {"ro": calls.RDONLY, "nosuid": calls.NOSUID, "nodev": calls.NODEV}
        known["noexec"] = calls.NOEXEC
        return sum(bit for name, bit in known.items() if name in self.options)


def mounts() -> list[Mounted]:
    """Return the current mounts, in order, without covered ones."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        every = [Mounted(line) for line in file]
    return [found for found in every if _number_at(found.path) == found.number]


def _number_at(path: str) -> int:
    """Return the id of the mount at *path*, -1 for none."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("mnt_id"))
    finally:
        os.close(fd)


def prepare(socket: str, writable: list[str]) -> None:
    """Restrict the template's own mounts to what runs may have, once.

    Mounts are writable only below *writable*, because all runs share them.
    """
    calls.mount("", "/", flags=calls.REC | calls.PRIVATE)
    calls.unmount(socket)
    os.unlink(socket)
    for found in reversed(mounts()):
        if found.path in _PRIVATE:
            calls.unmount(found.path)
        elif found.path.startswith("/sys/fs/cgroup/"):
            with suppress(OSError):  # with the machine's network /sys is the machine's
                calls.unmount(found.path)
    kept = ("/proc", *writable)
    for found in mounts():
        renewed = found.is_scratch and found.path != "/dev"
        if found.path != "/" and not renewed and not _is_below(found.path, kept):
            flags = calls.REMOUNT | calls.BIND | calls.RDONLY | found.flags
            calls.mount("", found.path, flags=flags)


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return path in folders or path.startswith(tuple(f"{folder}/" for folder in folders))


class Plan:
    """The steps of build(), prepared once for all forks of the template."""

    def __init__(self, *, read_only: bool, hidden: list[str]) -> None:
        self.read_only = read_only
        self.hidden = [(path, os.path.isdir(path)) for path in hidden if os.path.exists(path)]
        self.mounts = [found for found in mounts() if _is_carried(found.path)]

    def build(self) -> None:
        """Give our mount namespace, which must be new, its own root and enter it."""
        calls.mount("tmpfs", "/proc", "tmpfs", calls.NOSUID | calls.NODEV, "mode=0755")
        for name in ("u", "w", "r"):
            os.mkdir(f"/proc/{name}", 0o755)
        try:
            calls.mount("overlay", _NEW, "overlay", 0, _LAYERS)
        except OSError:  # for instance if the template's root has too many layers itself
            _make_fixed_root()
        for found in self.mounts:
            _carry(found)
        _make_dev()
        self._make_proc()
        if self.read_only:
            calls.mount("", _NEW, flags=calls.REMOUNT | calls.BIND | calls.RDONLY)
        _enter()

    def _make_proc(self) -> None:
        """Mount the run's own, where nothing can be set and nothing shows the machine."""
        place = f"{_NEW}/proc"
        calls.mount("proc", place, "proc", _SAFE)
        for path, is_folder in self.hidden:
            if is_folder:
                calls.mount("tmpfs", _NEW + path, "tmpfs", _SAFE | calls.RDONLY, "size=0")
            else:
                calls.mount("/dev/null", _NEW + path, flags=calls.BIND)
        calls.mount("", place, flags=calls.REMOUNT | calls.BIND | calls.RDONLY | _SAFE)


def _make_fixed_root() -> None:
    """Without a layer: make the usual writable folders empty, and the rest read-only."""
    calls.mount("/", _NEW, flags=calls.BIND)
    calls.mount("", _NEW, flags=calls.REMOUNT | calls.BIND | calls.RDONLY)
    for path in _SCRATCH:
        if os.path.isdir(path) and not os.path.islink(path):
            calls.mount("tmpfs", _NEW + path, "tmpfs", calls.NOSUID | calls.NODEV, "mode=1777")


def _is_carried(path: str) -> bool:
    if path in _TREES:
        return True
    return path != "/" and not _is_below(path, (*_TREES, "/proc"))


def _carry(found: Mounted) -> None:
    target = _NEW + found.path
    if not os.path.lexists(target):  # it was in a tmpfs, which is a new one now
        os.makedirs(target if found.is_folder else os.path.dirname(target), exist_ok=True)
        if not found.is_folder:
            os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC, 0o644))
    if found.path in _TREES:
        calls.mount(found.path, target, flags=calls.BIND | calls.REC)
    elif found.is_scratch:
        calls.mount("tmpfs", target, "tmpfs", found.flags, "mode=1777")
    else:
        calls.mount(found.path, target, flags=calls.BIND)


def _make_dev() -> None:
    """Mount a new instance of everything writable below /dev."""
    place = f"{_NEW}/dev"
    calls.mount("tmpfs", f"{place}/shm", "tmpfs", _SAFE, "mode=1777")
    calls.mount("mqueue", f"{place}/mqueue", "mqueue", _SAFE)
    options = "newinstance,ptmxmode=0666,mode=0620"
    calls.mount("devpts", f"{place}/pts", "devpts", calls.NOSUID | calls.NOEXEC, options)


def _enter() -> None:
    """Make it the root, and detach the old one. pivot_root(2), "."."""
    os.chdir(_NEW)
    calls.pivot_root(".", ".")
    calls.unmount(".")
    os.chdir("/")
