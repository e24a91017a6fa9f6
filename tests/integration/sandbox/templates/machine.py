"""What the kernel shows of an engine's templates."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from tests.integration.engines import EngineProcess

CGROUPS = Path("/sys/fs/cgroup")


def tokens(engine: EngineProcess) -> set[str]:
    """Return what the engine knows its templates' cgroups by."""
    folder = engine.run / "templates"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def cgroups(names: Iterable[str]) -> list[Path]:
    """Return the cgroups that hold, or held, the runs of the templates of these tokens."""
    below = ("orlop/template-", "*/orlop/template-")
    return [path for name in names for start in below for path in CGROUPS.glob(start + name)]


def members(names: Iterable[str]) -> set[int]:
    """Return the processes in them."""
    found: set[int] = set()
    for cgroup in cgroups(names):
        for file in cgroup.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # it is just being removed
                found.update(int(pid) for pid in file.read_text().split())
    return found


def command(pid: int) -> bytes:
    """Return its words, b"" once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
