"""What the kernel shows of templates."""

import contextlib
from pathlib import Path


def template_cgroups() -> set[Path]:
    """Return the cgroups that hold runs, of whatever engine."""
    return {*Path("/sys/fs/cgroup").glob("orlop/template-*")} | {
        *Path("/sys/fs/cgroup").glob("*/orlop/template-*")
    }


def command(pid: int) -> bytes:
    """Return its words, b"" once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def members(cgroups: set[Path]) -> set[int]:
    """Return the processes in them and below."""
    found: set[int] = set()
    for cgroup in cgroups:
        for file in cgroup.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # it is just being removed
                found.update(int(pid) for pid in file.read_text().split())
    return found
