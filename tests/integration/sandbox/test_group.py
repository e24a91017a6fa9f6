"""A process and all that it starts, killed together, in either version of cgroups."""

import os
import signal
import time
from collections.abc import Iterator
from typing import cast

import pytest

from orlop.runtime import cgroups
from orlop.runtime.cgroups import Cgroup, group
from orlop.runtime.cgroups.entrance import Entrance
from tests.integration.cgroups.members import spawn
from tests.integration.sandbox.faces import wait_until

BURNT_S = 0.2


@pytest.fixture(params=["v2", "v1"])
def cgroup(request: pytest.FixtureRequest) -> Iterator[Cgroup]:
    """A cgroup with the hierarchies of one version alone."""
    made = cgroups.create(f"/orlop-group-{os.getpid()}", {})
    kept = {
        name: path
        for name, path in made.directories.items()
        if bool(name) == (request.param == "v1")
    }
    try:
        if not kept:
            pytest.skip(f"this host has no cgroup {request.param}")
        yield cast("Cgroup", Entrance(made.path, kept))
    finally:
        made.kill()
        made.remove()


def sleep() -> int:
    signal.pause()
    return 0


def test_kill_reaches_the_group_and_nobody_beside_it(cgroup: Cgroup) -> None:
    inside, beside = spawn(group.make(cgroup, "exec-1"), sleep), spawn(cgroup, sleep)
    try:
        group.kill(cgroup, "exec-1")
        assert os.waitstatus_to_exitcode(os.waitpid(inside, 0)[1]) == -signal.SIGKILL
        assert os.waitpid(beside, os.WNOHANG) == (0, 0)
    finally:
        os.kill(beside, signal.SIGKILL)
        os.waitpid(beside, 0)
    wait_until(lambda: _removed(cgroup, "exec-1"), "the group is still there")


def test_time_is_that_of_all_that_has_been_in_the_group_alone(cgroup: Cgroup) -> None:
    first, second = group.make(cgroup, "exec-1"), group.make(cgroup, "exec-2")
    if group.times_us(first) is None:
        pytest.skip("this kernel does not count a group's time")
    for _ in range(2):
        os.waitpid(spawn(first, burn), 0)
    assert sum(group.times_us(first) or ()) >= 2 * BURNT_S * 1e6
    assert sum(group.times_us(second) or ()) < BURNT_S * 1e6


def burn() -> int:
    while time.process_time() < BURNT_S:
        pass
    return 0


def test_group_that_is_gone_is_no_error(cgroup: Cgroup) -> None:
    group.kill(cgroup, "exec-none")
    group.remove(cgroup, "exec-none")


def _removed(cgroup: Cgroup, name: str) -> bool:
    group.remove(cgroup, name)
    return not any(os.path.exists(f"{path}/{name}") for path in cgroup.directories.values())
