"""What a container sees of its cgroup, and what is in force, is as with runc."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.runtime.cgroups.layout import detect
from tests.integration.oci_runtime.program import OCIBundle, Program

MIB = 1 << 20
V1_FILES = (
    "memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes"
    " memory/memory.soft_limit_in_bytes memory/memory.swappiness memory/memory.oom_control"
    " cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.cfs_burst_us"
    " cpuset/cpuset.cpus cpuset/cpuset.mems pids/pids.max devices/devices.list"
)
RUNC = shutil.which("runc") or shutil.which("runc", path="/usr/sbin:/sbin") or ""

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not RUNC, reason="needs root and runc")


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Program, Program]]:
    """`orlop-runtime` and runc."""
    (tmp_path / "runc").mkdir()
    made = Program(tmp_path), Program(tmp_path / "runc", script=Path(RUNC))
    yield made
    for program in made:
        program.close()


@pytest.fixture
def bundle(tmp_path: Path) -> OCIBundle:
    made = OCIBundle(tmp_path / "bundle")
    # Places of files outside the cgroup that a host may not have, or not as we do.
    made.linux["maskedPaths"] = made.linux["readonlyPaths"] = []
    return made


def hierarchies(table: str) -> set[tuple[str, ...]]:
    """The cgroup mounts of a mountinfo: where, what of it, with which flags, whose.

    Not the unified one beside v1's, which runc leaves out.
    """
    found: set[tuple[str, ...]] = set()
    for line in table.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ")
        root, place, flags = left.split(" ")[3:6]
        if kind in ("cgroup", "cgroup2") and not place.endswith("/unified"):
            found.add((place, root, flags, kind, options))
    return found


def said(program: Program, bundle: OCIBundle, *args: str) -> str:
    done = program.run(bundle, *args)
    assert done.returncode == 0, done
    return str(done.stdout)


@pytest.mark.parametrize("how", ["ro", "rw"])
@pytest.mark.parametrize("own", [True, False])
def test_the_mounts_are_the_same(
    both: tuple[Program, Program], bundle: OCIBundle, *, own: bool, how: str
) -> None:
    bundle.config["mounts"][-1]["options"] = ["nosuid", "nodev", "noexec", how]
    bundle.linux["cgroupsPath"] = "/orlop-test-layout/one"
    rest = [each for each in bundle.linux["namespaces"] if each["type"] != "cgroup"]
    bundle.linux["namespaces"] = [*rest, *([{"type": "cgroup"}] if own else [])]
    ours, theirs = (said(each, bundle, "cat", "/proc/self/mountinfo") for each in both)
    assert hierarchies(ours) == hierarchies(theirs) != set()
    ours, theirs = (said(each, bundle, "cat", "/proc/self/cgroup") for each in both)
    assert ours == theirs
    remove_parent()


@pytest.mark.skipif(not detect().v1, reason="names v1's files")
def test_the_limits_are_the_same(both: tuple[Program, Program], bundle: OCIBundle) -> None:
    bundle.linux["cgroupsPath"] = "/orlop-test-layout/one"
    bundle.linux["resources"] = {
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB, "swappiness": 7},
        "cpu": {"shares": 300, "quota": 30000, "period": 60000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 77},
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            {"allow": True, "type": "b", "major": 7, "access": "r"},
        ],
    }
    script = f"for file in {V1_FILES}; do echo $file $(sort /sys/fs/cgroup/$file); done"
    ours, theirs = (said(each, bundle, "sh", "-ec", script) for each in both)
    assert ours == theirs
    remove_parent()


def remove_parent() -> None:
    for hierarchy in detect().hierarchies:
        Path(f"{hierarchy.mountpoint}/orlop-test-layout").rmdir()
