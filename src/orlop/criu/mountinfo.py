"""The mounts in a process's mount namespace. proc_pid_mountinfo(5)."""

from __future__ import annotations

from orlop.model.light import NamedTuple
from orlop.runtime.cgroups.layout import unescape


class Mounted(NamedTuple):
    number: int
    device: str  # "major:minor" of the file system
    root: str  # the part of the file system that is shown
    mountpoint: str
    options: str  # of this mount
    fstype: str
    master: str = ""  # the peer group that it receives mounts from


def mounts_of(pid: int | str) -> list[Mounted]:
    """Return the mounts that process *pid* ("self") sees, in the order in which they were made."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [_parse(line) for line in file]


def _parse(line: str) -> Mounted:
    left, _, right = line.partition(" - ")
    number, _, device, root, mountpoint, options, *tags = left.split(" ")
    fstype = right.partition(" ")[0]
    master = next((tag[7:] for tag in tags if tag.startswith("master:")), "")
    places = unescape(root), unescape(mountpoint)
    return Mounted(int(number), device, *places, options, fstype, master)
