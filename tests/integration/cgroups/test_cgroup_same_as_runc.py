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
    for hierarchy in detect().hierarchies:
        Path(f"{hierarchy.mountpoint}/orlop-test-layout").rmdir()


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


UPDATES = [
    ["--memory", "128m", "--memory-swap", "256m"],
    ["--memory", "32m", "--memory-swap", "64m"],
    ["--memory-swap", "96m"],
    ["--memory-reservation", "16m"],
    ["--memory", "512m", "--memory-swap", "-1"],
    ["--memory", "-1"],
    ["--cpu-quota", "90000", "--cpu-period", "100000"],
    ["--cpu-quota", "5000", "--cpu-period", "10000"],
    ["--cpu-period", "50000"],
    ["--cpu-quota", "-1"],
    ["--cpu-share", "77"],
    ["--cpuset-cpus", "0"],
    ["--cpuset-mems", "0"],
    ["--pids-limit", "9"],
    ["--pids-limit", "-1"],
]


@pytest.mark.skipif(not detect().v1, reason="names v1's files")
def test_each_update_leaves_the_same(both: tuple[Program, Program], bundle: OCIBundle) -> None:
    bundle.linux["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}}
    seen: list[list[list[str]]] = []
    for program in both:
        bundle.linux["cgroupsPath"] = f"/orlop-test-layout/{program.root.parent.name}"
        name = program.running(bundle)
        seen.append([])
        for words in ([], *UPDATES):
            if words:
                program.ok("update", *words, name)
            seen[-1].append([*words, *in_force(bundle.linux["cgroupsPath"])])
        program.ok("delete", "--force", name)
    assert seen[0] == seen[1]


def in_force(path: str) -> list[str]:
    found = []
    for file in V1_FILES.split():
        controller, _, name = file.partition("/")
        lines = Path(f"/sys/fs/cgroup/{controller}{path}/{name}").read_text().splitlines()
        found += [f"{file} {line}" for line in sorted(lines)]
    return found
