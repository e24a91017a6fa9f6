"""What an engine weighs, and what it leaves: processes, descriptors and kernel objects."""

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_TICKS_S = os.sysconf("SC_CLK_TCK")
_ENDING_S = 30.0
_POLL_S = 0.05
_NETWORK_NAMESPACE = re.compile(r"net:\[(\d+)\]")


def marked(marks: Sequence[str]) -> Iterator[int]:
    """Yield processes in whose command line one of *marks* stands, but for this one."""
    wanted = [os.fsencode(mark) for mark in marks]
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if any(mark in command for mark in wanted):
                    yield int(entry.name)


def kill_marked(mark: str) -> None:
    """End all processes in whose command line *mark* stands, and those that they start."""
    deadline = time.monotonic() + _ENDING_S
    while (pids := list(marked([mark]))) and time.monotonic() < deadline:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_S)


def pss_kb(pids: Sequence[int]) -> int:
    """Return their memory together: what several share counts in parts. proc_pid_smaps(5)."""
    total = 0
    for pid in pids:
        with suppress(OSError):  # it has ended
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total


def cpu_s(pids: Sequence[int]) -> float:
    """Return processor seconds that they, and children they have waited for, have used.

    Fields 14 to 17 of /proc/PID/stat. proc_pid_stat(5).
    """
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:15])
    return total / _TICKS_S


def remains(marks: Sequence[str]) -> dict[str, int]:
    """Count what could be left behind; all but the first three of the whole machine."""
    pids = list(marked(marks))
    folders = [_PROC / str(pid) / "fd" for pid in pids]
    descriptors = [link for folder in folders for link in _links(folder)]
    held = {found[1] for link in descriptors if (found := _NETWORK_NAMESPACE.fullmatch(link))}
    return {
        "processes": len(pids),
        "descriptors": len(descriptors),
        "pss_kb": pss_kb(pids),
        "cgroups": sum(1 for _ in _folders(_CGROUPS)),
        "network_namespaces": len(held | set(_network_namespaces())),
        "interfaces": sum(1 for _ in Path("/sys/class/net").iterdir()),
        "mounts": len((_PROC / "self/mountinfo").read_text().splitlines()),
    }


def _links(folder: Path) -> Iterator[str]:
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                yield os.readlink(folder / name)


def _network_namespaces() -> Iterator[str]:
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                found = _NETWORK_NAMESPACE.fullmatch(os.readlink(entry / "ns/net"))
                if found:
                    yield found[1]


def _folders(root: Path) -> Iterator[str]:
    for folder, _, _ in os.walk(root):
        yield folder
