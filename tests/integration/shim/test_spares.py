"""Spare cgroups in the shim's hands."""

import contextlib
import os
import signal
import uuid
from pathlib import Path

import pytest

from orlop.runtime.cgroups.layout import detect

from .harness import Shim, eventually

RULES = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "access": "rwm"}]


def spares(pid: int) -> dict[str, int]:
    folder = Path(detect().v1[0].mountpoint, "orlop")
    found = {}
    for path in folder.glob(f".spare-{pid}-*"):
        with contextlib.suppress(FileNotFoundError):  # being removed
            found[path.name] = path.stat().st_ino
    return found


def start(shim: Shim, name: str) -> Path:
    """Start a container below /orlop, and return its cgroup's folder in the first hierarchy."""
    unique = f"{name}-{uuid.uuid4().hex[:8]}"
    shim.linux = {"cgroupsPath": f"/orlop/{unique}", "resources": {"devices": RULES}}
    shim.start(name, "sleep", "100")
    return Path(detect().v1[0].mountpoint, "orlop", unique)


@pytest.mark.skipif(not detect().v1, reason="needs cgroup v1")
def test_the_second_start_takes_a_spare_and_a_shutdown_leaves_none(shim: Shim) -> None:
    pid = shim.pid
    start(shim, "first")
    eventually(lambda: len(spares(pid)) == 4)
    before = set(spares(pid).values())
    folder = start(shim, "second")
    assert folder.stat().st_ino in before
    for name in ("first", "second"):
        shim.request(op="signal", id=name, signal=9)
        shim.wait_exit(name)
        shim.request(op="forget", id=name)
    shim.request(op="shutdown")
    eventually(lambda: not spares(pid))


@pytest.mark.skipif(not detect().v1, reason="needs cgroup v1")
def test_the_spares_of_a_killed_shim_are_removed_by_the_next(shim: Shim) -> None:
    pid = shim.pid
    folder = start(shim, "first")
    eventually(lambda: len(spares(pid)) == 4)
    os.kill(pid, signal.SIGKILL)
    shim.again()
    assert spares(pid) == {}
    assert folder.exists()  # its container runs on
    shim.request(op="signal", id="first", signal=9)
    shim.wait_exit("first")
    eventually(lambda: not folder.exists())
