"""What only the v2 hierarchy has: device programs and delegation."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.errors import UnsupportedError, WrongStateError
from orlop.kernel import bpf
from orlop.runtime import cgroups
from orlop.runtime.cgroups import Cgroup, device_program
from orlop.runtime.cgroups.layout import Layout, detect
from orlop.runtime.cgroups.v2 import enable
from tests.integration.cgroups.members import run_inside, sleeping, spawn, until
from tests.integration.cgroups.test_cgroup_limits_kernel import RULES, try_devices


@pytest.fixture
def unified() -> Layout:
    host = detect().unified
    if host is None:
        pytest.skip("needs a cgroup v2 hierarchy")
    controllers = frozenset() if detect().v1 else host.controllers
    return Layout((), host._replace(controllers=controllers))


@pytest.fixture
def cgroup(parent: str, unified: Layout) -> Iterator[Cgroup]:
    made = cgroups.create(f"{parent}/one", {"devices": RULES}, layout=unified)
    yield made
    made.remove()


def test_the_program_decides_who_may_open_what(cgroup: Cgroup) -> None:
    assert run_inside(cgroup, try_devices) == 1


def test_an_update_replaces_the_program(cgroup: Cgroup) -> None:
    cgroup.update({"devices": [{"allow": True, "access": "rwm"}]})
    assert run_inside(cgroup, try_devices) == 3
    cgroup.update({"devices": RULES})
    assert run_inside(cgroup, try_devices) == 1


def test_there_is_never_more_than_one_program(cgroup: Cgroup) -> None:
    for _ in range(3):
        device_program.put(cgroup.directories[""], RULES)
    folder = os.open(cgroup.directories[""], os.O_RDONLY | os.O_DIRECTORY)
    programs = bpf.device_programs(folder)
    for fd in (folder, *programs):
        os.close(fd)
    assert len(programs) == 1


def test_a_controller_that_was_not_handed_down_is_explained(parent: str, unified: Layout) -> None:
    assert unified.unified is not None
    with pytest.raises(UnsupportedError, match="was not given"):
        enable(unified.unified.mountpoint, f"{parent}/a/b", ["no_such_controller"])


def test_processes_in_the_way_of_delegation_are_explained(parent: str, unified: Layout) -> None:
    host = detect().unified
    assert host is not None
    given = Path(host.mountpoint, "cgroup.subtree_control").read_text()
    if "hugetlb" not in host.controllers or "hugetlb" in given:
        pytest.skip("needs hugetlb in v2, not handed down yet")
    try:
        enable(host.mountpoint, f"{parent}/x", ["hugetlb"])
        middle = cgroups.create(f"{parent}/middle", {}, layout=unified)
        with sleeping(middle), pytest.raises(WrongStateError, match="processes of its own"):
            enable(host.mountpoint, f"{parent}/middle/x", ["hugetlb"])
        middle.remove()
        os.rmdir(host.mountpoint + parent)
    finally:
        with open(f"{host.mountpoint}/cgroup.subtree_control", "w") as file:
            file.write("-hugetlb")


@pytest.mark.skipif(not Path("/proc/pressure/cpu").exists(), reason="a kernel without PSI")
def test_waiting_for_a_processor_is_counted(cgroup: Cgroup) -> None:
    def burn() -> int:
        os.sched_setaffinity(0, {0})
        while True:
            pass

    pids = [spawn(cgroup, burn) for _ in range(3)]
    try:
        until(lambda: cgroup.statistics().pressure["cpu"]["some"].total_us > 10_000)
    finally:
        cgroup.kill()
        for pid in pids:
            os.waitpid(pid, 0)
    assert {"some", "full"} == set(cgroup.statistics().pressure["memory"])


def test_a_cgroup_can_be_given_to_a_user(cgroup: Cgroup) -> None:
    cgroup.give(1000)
    folder = Path(cgroup.directories[""])
    owned = {path.name for path in [folder, *folder.iterdir()] if path.stat().st_uid == 1000}
    assert {folder.name, "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} <= owned
    assert not owned & {"cgroup.freeze", "cgroup.max.depth", "hugetlb.2MB.max"}
