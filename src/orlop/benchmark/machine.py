"""What the figures were measured on, and how busy it is."""

import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import orlop

_TICKS_S = os.sysconf("SC_CLK_TCK")
#: In the first line of /proc/stat: user, nice, system, irq, softirq. proc_stat(5).
_BUSY = (1, 2, 3, 6, 7)
_WINDOW_S = 0.25
_SETTLING_S = 4.0
#: Versions that are told, by program.
_PEERS: Mapping[str, Sequence[str]] = {
    "docker": ("docker", "--version"),
    "podman": ("podman", "--version"),
    "ctr": ("ctr", "--version"),
    "runc": ("runc", "--version"),
    "cc": ("cc", "--version"),
}


def describe() -> dict[str, object]:
    """Return what somebody needs to know who compares figures."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count() or 1,
        "memory_mb": memory // 1_000_000,
        "cgroups": cgroup_mode(),
        "python": sys.version.split()[0],
        "orlop": orlop.__version__,
        "peers": {name: _version(words) for name, words in _PEERS.items() if shutil.which(name)},
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def cgroup_mode() -> str:
    """Return v1, v2 or hybrid, by what is mounted. cgroups(7)."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return "v2"
    return "hybrid" if (root / "unified").is_dir() else "v1"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def _version(words: Sequence[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip().partition("\n")[0]


def busy_s() -> float:
    """Return processor seconds that all of the machine's processes have used since it booted."""
    with open("/proc/stat") as stat:
        fields = stat.readline().split()
    return sum(int(fields[position]) for position in _BUSY) / _TICKS_S


def generator_cpu_s() -> float:
    """Return processor seconds of this process, which makes the load."""
    return _seconds(resource.RUSAGE_SELF)


def clients_cpu_s() -> float:
    """Return those of the peers' command lines that this process has run and waited for."""
    return _seconds(resource.RUSAGE_CHILDREN)


def _seconds(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def idle_share(seconds: float = 1.0) -> float:
    """Return processors' worth of what the machine does by itself, measured for *seconds*."""
    begin, before = time.monotonic(), busy_s()
    time.sleep(seconds)
    return (busy_s() - before) / (time.monotonic() - begin)


def settle(idle: float, *, limit_s: float = _SETTLING_S) -> None:
    """Return when the machine is about as quiet as it was at *idle*: deferred work is done."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and idle_share(_WINDOW_S) > 1.5 * idle + 0.1:
        pass
