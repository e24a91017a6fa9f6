"""What every driver promises, tried on this host's layout and on each half of a hybrid one."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.errors import AlreadyExistsError, InvalidArgumentError, OrlopError, WrongStateError
from orlop.runtime import cgroups
from orlop.runtime.cgroups import Cgroup
from orlop.runtime.cgroups.layout import Hierarchy, Layout
from tests.integration.cgroups.members import run_inside, sleeping, spawn, until
from tests.integration.cgroups.test_cgroup_limits_kernel import RULES, try_devices

Make = Callable[..., Cgroup]


def is_member(pid: int, cgroup: Cgroup) -> bool:
    with open(f"/proc/{pid}/cgroup") as file:
        places = {line.rstrip("\n").split(":", 2)[1]: line.rstrip("\n") for line in file}
    return all(
        places[name].endswith(cgroup.path)
        for name in (",".join(key.split(",")) for key in cgroup.directories)
    )


def test_a_cgroup_is_made_in_every_hierarchy(make: Make) -> None:
    cgroup = make()
    assert cgroup.directories
    assert all(os.path.isdir(path) for path in cgroup.directories.values())


def test_a_name_can_be_used_once(make: Make) -> None:
    cgroup = make()
    with pytest.raises(AlreadyExistsError, match=cgroup.path):
        make()
    assert all(os.path.isdir(path) for path in cgroup.directories.values())


def test_a_path_too_long_for_the_kernel_is_refused(make: Make, parent: str, layout: Layout) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be a cgroup's path"):
        make(name="x" * 5000)
    assert cgroups.names(parent, layout=layout) == set()


def test_a_tree_in_which_nothing_can_be_made_is_explained() -> None:
    place = Hierarchy("/proc/sys/fs", "/", frozenset({"pids"}))  # no directory can be made here
    with pytest.raises(OrlopError, match="cgroup /proc/sys/fs"):
        cgroups.create("/x", {}, layout=Layout((place,), None))


def test_what_a_crash_left_is_found_and_completed(make: Make, layout: Layout, parent: str) -> None:
    left = make()
    first = next(iter(left.directories.values()))
    os.rmdir(first)
    assert cgroups.names(parent, layout=layout) == (
        set() if len(left.directories) == 1 else {"one"}
    )
    anew = cgroups.create_or_take(left.path, {}, layout=layout)
    assert os.path.isdir(first)
    with sleeping(anew), pytest.raises(AlreadyExistsError):
        cgroups.create_or_take(left.path, {}, layout=layout)


def test_a_cgroup_made_for_a_container_keeps_what_it_has(make: Make, layout: Layout) -> None:
    mine = make()
    for name, file, value in (("pids", "pids.max", "17"), ("", "cgroup.max.depth", "5")):
        if (directory := mine.directories.get(name)) is not None:
            (Path(directory) / file).write_text(value)
    mine.freeze()
    taken = cgroups.create_or_take(mine.path, {"devices": RULES}, layout=layout)
    for name, file, value in (("pids", "pids.max", "17"), ("", "cgroup.max.depth", "5")):
        if (directory := mine.directories.get(name)) is not None:
            assert (Path(directory) / file).read_text().strip() == value
    assert run_inside(taken, try_devices) == 1


def test_what_a_crash_left_with_cgroups_below_is_made_anew(make: Make, layout: Layout) -> None:
    left = make()
    make(name="one/below")
    anew = cgroups.create_or_take(left.path, {"devices": RULES}, layout=layout)
    assert not any(os.path.exists(f"{path}/below") for path in anew.directories.values())


def test_one_that_was_taken_stays_where_its_limits_cannot_be_had(
    make: Make, layout: Layout
) -> None:
    mine = make()
    with pytest.raises(OrlopError):
        cgroups.create_or_take(mine.path, {"unified": {"no_such.file": "1"}}, layout=layout)
    assert all(os.path.isdir(path) for path in mine.directories.values())


def test_a_child_walks_in(make: Make) -> None:
    cgroup = make()
    with sleeping(cgroup) as pid:
        assert is_member(pid, cgroup)
        assert list(cgroup.pids()) == [pid]


def test_a_process_can_be_moved_in_from_outside(make: Make) -> None:
    outer, inner = make(name="a"), make(name="b")
    with sleeping(outer) as pid:
        inner.enter(pid)
        assert is_member(pid, inner)
        assert list(outer.pids()) == []


def test_pids_counts_the_cgroups_below(make: Make) -> None:
    outer = make()
    inner = make(name="one/below")
    with sleeping(inner) as pid:
        assert list(outer.pids()) == [pid]
    inner.remove()


def busy_loop() -> int:
    while True:
        pass


def cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_frozen_processes_do_nothing_until_thawed(make: Make) -> None:
    cgroup = make()
    pid = spawn(cgroup, busy_loop)
    try:
        until(lambda: cpu_ticks(pid) > 2)
        cgroup.freeze()
        before = cpu_ticks(pid)
        time.sleep(0.1)
        assert cpu_ticks(pid) == before
        cgroup.thaw()
        until(lambda: cpu_ticks(pid) > before + 2)
    finally:
        cgroup.kill()
        os.waitpid(pid, 0)


def test_thawing_what_is_not_frozen_is_no_error(make: Make) -> None:
    make().thaw()


def test_a_frozen_process_can_be_killed(make: Make) -> None:
    cgroup = make()
    with sleeping(cgroup) as pid:
        cgroup.freeze()
        cgroup.kill()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def fork_bomb() -> int:
    """Fifty that fork, each of which is followed by another when it ends."""
    for _ in range(50):
        if os.fork() == 0:
            while True:
                if os.fork() == 0:
                    time.sleep(0.01)
                    os._exit(0)
                os.wait()
    time.sleep(60)
    return 0


def test_kill_outruns_fifty_that_fork(make: Make) -> None:
    cgroup = make()
    pid = spawn(cgroup, fork_bomb)
    until(lambda: len(list(cgroup.pids())) > 50)
    cgroup.kill()
    os.waitpid(pid, 0)
    until(lambda: not list(cgroup.pids()))
    if "" not in cgroup.directories:  # v2 goes on to kill who is born there, as of Linux 6.18
        assert run_inside(cgroup, lambda: os.waitpid(os.fork() or os._exit(0), 0)[1]) == 0


def test_other_signals_reach_every_process(make: Make) -> None:
    cgroup = make()
    with sleeping(cgroup) as pid:
        cgroup.kill(signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_remove_twice_is_no_error(make: Make) -> None:
    cgroup = make()
    cgroup.remove()
    assert not any(os.path.exists(path) for path in cgroup.directories.values())
    cgroup.remove()


def test_remove_takes_the_cgroups_below_along(make: Make) -> None:
    cgroup = make()
    for path in cgroup.directories.values():
        os.makedirs(f"{path}/a/b")
    cgroup.remove()
    assert not any(os.path.exists(path) for path in cgroup.directories.values())


@pytest.mark.parametrize("timeout_s", [0, 0.05])
def test_a_cgroup_in_use_is_not_removed(make: Make, timeout_s: float) -> None:
    cgroup = make()
    with sleeping(cgroup), pytest.raises(WrongStateError, match="in use"):
        cgroup.remove(timeout_s=timeout_s)


def test_remove_waits_for_a_process_that_is_just_ending(make: Make) -> None:
    cgroup = make()
    for _ in range(20):
        assert run_inside(cgroup, lambda: 7) == 7
    cgroup.remove()


def test_a_fresh_cgroup_has_used_next_to_nothing(make: Make) -> None:
    statistics = make().statistics()
    assert statistics.pids.current == 0
    assert statistics.memory.usage_bytes == 0
    assert statistics.cpu.throttled_periods == 0


def test_load_is_what_the_statistics_say(make: Make) -> None:
    cgroup = make()
    with sleeping(cgroup):
        load, statistics = cgroup.load(), cgroup.statistics()
        assert load.processes == (statistics.pids.current or -1)  # half of a hybrid counts none
        assert load.memory_limit_bytes == (statistics.memory.limit_bytes or -1)
        assert -1 <= load.memory_bytes <= statistics.memory.usage_bytes
        assert 0 < load.cpu_ns <= statistics.cpu.usage_ns
    cgroup.remove()
    assert cgroup.load() == (-1, -1, -1, -1)


def test_nobody_was_killed_for_memory_yet(make: Make) -> None:
    assert make().oom_kills() == 0
