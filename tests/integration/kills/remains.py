"""What an engine has on the machine: an inventory to take before and after, and to compare.

Everything that an engine starts comes back to us as its subreaper, so that our
descendants are its processes: those that nobody waits for, too.
"""

import contextlib
import ctypes
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.integration.engines import EngineProcess

CGROUPS = Path("/sys/fs/cgroup")
_PR_SET_CHILD_SUBREAPER = 36
_PASSING = {"orlop.programs.worker", "docker-registry"}  # a fixture's, or gone by itself
_PATIENCE_S = 15.0
_REAPS_S = 0.05
_NAMESPACE = re.compile(r"(net|mnt|pid|ipc|uts):\[")
_MADE_AHEAD = 4  # network namespaces that an engine may have ready
_TABLES = ("containers", "volumes", "networks", "images")

#: Names that differ from one time to the next, or come and go without meaning anything.
_FLEETING = (
    re.compile(r"/metadata\.db-(wal|journal|reserve)$"),
    re.compile(r"/pool/.*"),  # made ahead
    re.compile(r"/seccomp/[0-9a-f]{64}\.bpf$"),  # compiled once, and kept
    re.compile(r"/engine\.lock$|\.log$|/boot$|/durable$|/engine-id$"),
)
#: How many processes of a name a shim forks ahead.
_AHEAD = {"orlop-reserve": 1, "orlop-launcher": len(os.sched_getaffinity(0))}


class Remains(NamedTuple):
    """Each a set of lines that a person can read."""

    processes: frozenset[str]
    cgroups: frozenset[str]
    mounts: frozenset[str]
    namespaces: frozenset[str]
    links: frozenset[str]
    files: frozenset[str]
    rows: frozenset[str]

    def differences(self, before: "Remains") -> list[str]:
        """Return what is more (+) or less (-) than *before*."""
        said = []
        for kind, now, then in zip(self._fields, self, before, strict=True):
            said += [f"+ {kind}: {line}" for line in sorted(now - then)]
            said += [f"- {kind}: {line}" for line in sorted(then - now)]
        return said


def take(engine: EngineProcess, *, cgroup: str) -> Remains:
    """Look at all that *engine* has; its containers' cgroups are below one named *cgroup*."""
    pids = list(_without_reserves(descendants(os.getpid())))
    return Remains(
        processes=frozenset(_counted(_name(pid) for pid in pids)),
        cgroups=frozenset(_cgroups(cgroup)),
        mounts=frozenset(_mounts(engine)),
        namespaces=frozenset(_counted(_held(pids))),
        links=frozenset(_counted(_links())),
        files=frozenset(_files(engine)),
        rows=frozenset(_rows(engine)),
    )


def assert_same(engine: EngineProcess, before: Remains, *, cgroup: str, after: str) -> None:
    """Fail unless all is as it was *before*, once the background work is done."""
    deadline = time.monotonic() + _PATIENCE_S
    while differences := take(engine, cgroup=cgroup).differences(before):
        assert time.monotonic() < deadline, "\n".join([f"after {after}:", *differences])
        time.sleep(0.02)


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Be the parent of what loses its own. PR_SET_CHILD_SUBREAPER(2const)."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        reap_orphans()
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def reap_orphans() -> None:
    """Reap zombies that came to us; what subprocess started is left to it."""
    import subprocess

    subprocess._cleanup()  # type: ignore[attr-defined] # its own first
    ours = {pid for pid in _children(os.getpid()) if _is_orphan(pid)}
    for pid in ours:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


@contextlib.contextmanager
def reaping() -> Iterator[None]:
    """Reap what comes to us at once, as a host's init does.

    The first process of a container is not gone before the others of its pid namespace
    have been reaped, and those of a killed shim are ours.
    """
    over = threading.Event()

    def work() -> None:
        while not over.wait(_REAPS_S):
            reap_orphans()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def until(check: Callable[[], object], what: str, *, timeout_s: float = 10.0) -> None:
    """Wait for *check* to be true; a failed assertion that says *what* when it never is."""
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes below *pid*, without strace and what only waits to be reaped."""
    for child in _children(pid):
        if not _is_zombie(child):
            yield child
            yield from descendants(child)


def _without_reserves(pids: Iterable[int]) -> Iterator[int]:
    """Leave out those that each shim has forked ahead, and which come and go."""
    found: Counter[tuple[int, str]] = Counter()
    for pid in pids:
        parent, name = int((_stat(pid) or ["", "0"])[1]), _comm(pid)
        found[parent, name] += 1
        if _comm(parent) != "orlop-shim" or found[parent, name] > _AHEAD.get(name, 0):
            yield pid


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _is_zombie(pid: int) -> bool:
    return (_stat(pid) or ["X"])[0] in "ZX"


def _is_orphan(pid: int) -> bool:
    """Whether it is a zombie of a session of its own, as shims and containers are."""
    fields = _stat(pid)
    return bool(fields) and fields[0] == "Z" and int(fields[3]) != os.getsid(0)


def _name(pid: int) -> str:
    """Name a process as its successor; "" for one that does not count."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return "" if _PASSING & set(words) else " ".join(words)[:150].strip()
    return ""


def _counted(names: Iterator[str]) -> Iterator[str]:
    return (f"{name} x{count}" for name, count in Counter(names).items() if name)


def _cgroups(name: str) -> Iterator[str]:
    for hierarchy in CGROUPS.iterdir():
        for parent, folders, _ in os.walk(hierarchy / name):
            yield from (f"{parent}/{folder}" for folder in folders)


def _mounts(engine: EngineProcess) -> Iterator[str]:
    """Name what is mounted here, but for the interpreter of orlop-runtime, which is no engine's."""
    folder = str(engine.run.parent)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if (folder in line or "orlop" in line) and " orlop-sealed " not in line:
            yield line


def _held(pids: list[int]) -> Iterator[str]:
    """Name what keeps namespaces and detached mounts alive: processes' own, and descriptors."""
    ours = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "mnt", "pid", "ipc", "uts")}
    for pid in pids:
        with contextlib.suppress(OSError):
            for kind in ("net", "mnt", "pid", "ipc", "uts"):
                if os.readlink(f"/proc/{pid}/ns/{kind}") not in ours:
                    yield f"a process in a {kind} namespace of its own"
            targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            held = [target for target in targets if _NAMESPACE.match(target)]
            kinds = [target.partition(":")[0] for target in held if target not in ours]
            if "orlop.programs.engine" in _name(pid):
                made_ahead = min(kinds.count("net"), _MADE_AHEAD)
                kinds = sorted(kinds, key=lambda kind: kind != "net")[made_ahead:]
            yield from (f"{_name(pid)[-40:]} holds {kind}" for kind in kinds)


def _links() -> Iterator[str]:
    """Name the interfaces here; those of one kind have names by chance."""
    with open("/proc/thread-self/net/dev") as file:
        for line in file.readlines()[2:]:
            name = line.partition(":")[0].strip()
            yield name[:2] if name.startswith("ve") else name


def _files(engine: EngineProcess) -> Iterator[str]:
    for top in (engine.root, engine.run):
        for parent, folders, files in os.walk(top):
            for name in (*folders, *files):
                path = os.path.join(parent, name)
                if not any(pattern.search(path) for pattern in _FLEETING):
                    yield os.path.relpath(path, engine.run.parent)
            if "/layers/" in parent:
                folders.clear()  # their contents are the layer's


def _rows(engine: EngineProcess) -> Iterator[str]:
    """Count the records, in a copy: the engine's own database is open to nobody else."""
    if not (engine.root / "metadata.db").exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in ("metadata.db", "metadata.db-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(engine.root / name, folder)
        yield from _rows_of(f"{folder}/metadata.db")


def _rows_of(path: str) -> Iterator[str]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        known = {row[0] for row in database.execute("select name from sqlite_master")}
        for table in _TABLES:
            if table in known:
                count = database.execute(f"select count(*) from {table}").fetchone()[0]
                yield f"{table}: {count}"
