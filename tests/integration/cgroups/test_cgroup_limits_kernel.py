"""Limits, asked of the kernel: what its files say, and what it then does."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.errors import InvalidArgumentError, OrlopError, UnsupportedError, WrongStateError
from orlop.model.oci import CPU, DeviceRule, Resources
from orlop.runtime.cgroups import Cgroup
from orlop.runtime.cgroups.layout import detect
from orlop.runtime.cgroups.v2_limits import weight_of_shares
from tests.integration.cgroups.members import run_inside, spawn

Make = Callable[..., Cgroup]
MIB = 1 << 20
RULES: list[DeviceRule] = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
]


def needs(controller: str) -> None:
    if controller not in detect().controllers:
        pytest.skip(f"needs the cgroup controller {controller}")


def value(cgroup: Cgroup, *files: str) -> str:
    """Read the first of *files* that some hierarchy has."""
    for file in files:
        for directory in cgroup.directories.values():
            if (path := Path(directory, file)).exists():
                return path.read_text().strip()
    raise AssertionError(f"no {files} in {cgroup.directories}")


def test_limits_are_in_force_when_create_returns(host_make: Make) -> None:
    needs("memory")
    cgroup = host_make({"memory": {"limit": 64 * MIB}, "pids": {"limit": 7}})
    assert value(cgroup, "pids.max") == "7"
    assert value(cgroup, "memory.max", "memory.limit_in_bytes") == str(64 * MIB)


def test_realtime_limits_are_set_where_the_host_has_them(host_make: Make) -> None:
    if not any(Path(one.mountpoint, "cpu.rt_period_us").exists() for one in detect().hierarchies):
        pytest.skip("needs realtime groups in cgroup v1")
    assert value(host_make({"cpu": {"realtimePeriod": 500000}}), "cpu.rt_period_us") == "500000"


def test_update_leaves_unnamed_limits_alone(host_make: Make) -> None:
    cgroup = host_make({"pids": {"limit": 7}})
    cgroup.update({"memory": {"limit": 64 * MIB}})
    assert value(cgroup, "pids.max") == "7"


@pytest.mark.parametrize(("first", "then"), [(64, 128), (128, 64)])
def test_memory_and_swap_can_go_up_and_down_together(
    host_make: Make, first: int, then: int
) -> None:
    needs("memory")
    cgroup = host_make({"memory": {"limit": first * MIB, "swap": first * MIB}})
    cgroup.update({"memory": {"limit": then * MIB, "swap": then * MIB}})
    assert value(cgroup, "memory.max", "memory.limit_in_bytes") == str(then * MIB)


def test_swap_can_be_limited_otherwise_under_the_same_memory_limit(host_make: Make) -> None:
    needs("memory")
    cgroup = host_make({"memory": {"limit": 64 * MIB, "swap": 128 * MIB}})
    cgroup.update({"memory": {"swap": 96 * MIB}})
    both = value(cgroup, "memory.swap.max", "memory.memsw.limit_in_bytes")
    assert int(both) in (32 * MIB, 96 * MIB)
    assert value(cgroup, "memory.max", "memory.limit_in_bytes") == str(64 * MIB)


def test_a_memory_limit_can_be_lifted_again(host_make: Make) -> None:
    needs("memory")
    cgroup = host_make({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}})
    cgroup.update({"memory": {"limit": -1}})
    assert cgroup.statistics().memory.limit_bytes is None


def test_a_pids_limit_stops_a_fork(host_make: Make) -> None:
    needs("pids")
    cgroup = host_make({"pids": {"limit": 3}})

    def fork_until_refused() -> int:
        for count in range(10):
            try:
                if os.fork() == 0:
                    signal.pause()
            except BlockingIOError:
                return count
        return 99

    assert run_inside(cgroup, fork_until_refused) == 2
    cgroup.kill()


def test_who_takes_too_much_memory_is_killed_and_counted(host_make: Make) -> None:
    needs("memory")
    cgroup = host_make({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}})

    def eat() -> int:
        return len(bytearray(64 * MIB)) and 0

    assert run_inside(cgroup, eat) == 128 + signal.SIGKILL
    assert cgroup.oom_kills() == 1
    statistics = cgroup.statistics().memory
    assert statistics.limit_bytes == 16 * MIB
    assert statistics.peak_bytes > 8 * MIB


def test_a_quota_throttles_and_time_is_counted(host_make: Make) -> None:
    needs("cpu")
    cgroup = host_make({"cpu": {"quota": 2_000, "period": 20_000}})

    def burn() -> int:
        while os.times().user + os.times().system < 0.03:
            pass
        return 0

    assert run_inside(cgroup, burn) == 0
    cpu = cgroup.statistics().cpu
    assert cpu.usage_ns > 20_000_000
    assert cpu.throttled_periods > 0
    assert cpu.throttled_ns > 0


def test_cpus_are_those_asked_for_and_else_the_parents(host_make: Make) -> None:
    needs("cpuset")
    one = host_make({"cpu": {"cpus": "0"}}, name="narrow")
    all_ = host_make(name="wide")

    def allowed() -> int:
        return len(os.sched_getaffinity(0))

    assert run_inside(one, allowed) == 1
    assert run_inside(all_, allowed) == os.cpu_count()


def try_devices() -> int:
    """1 if null can be written, 2 if zero can be read."""
    result = 0
    for bit, path, how in ((1, "/dev/null", os.O_WRONLY), (2, "/dev/zero", os.O_RDONLY)):
        try:
            os.close(os.open(path, how))
            result |= bit
        except PermissionError:
            continue
    return result


def test_a_device_without_a_rule_cannot_be_opened(host_make: Make) -> None:
    assert run_inside(host_make({"devices": RULES}), try_devices) == 1


def test_device_rules_can_be_changed(host_make: Make) -> None:
    cgroup = host_make({"devices": RULES})
    cgroup.update({"devices": [{"allow": True, "access": "rwm"}]})
    assert run_inside(cgroup, try_devices) == 3


def test_what_stays_allowed_is_so_throughout(host_make: Make) -> None:
    cgroup = host_make({"devices": RULES})

    def open_null_again_and_again() -> int:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            if not try_devices() & 1:
                return 1
        return 0

    pid = spawn(cgroup, open_null_again_and_again)
    more: DeviceRule = {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"}
    for _ in range(500):
        cgroup.update({"devices": [*RULES, more]})
        cgroup.update({"devices": RULES})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert run_inside(cgroup, try_devices) == 1


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ({"quota": 50_000}, {"quota": 5_000, "period": 10_000}, (5_000, 10_000, 0)),
        ({"quota": 5_000, "period": 10_000}, {"quota": 90_000, "period": 100_000},
         (90_000, 100_000, 0)),
        ({"quota": 50_000, "burst": 40_000}, {"quota": 20_000, "burst": 10_000},
         (20_000, 100_000, 10_000)),
        ({"quota": 20_000, "burst": 10_000}, {"quota": 50_000, "burst": 40_000},
         (50_000, 100_000, 40_000)),
    ],
)  # fmt: skip
def test_quota_period_and_burst_can_be_changed_together(
    host_make: Make, first: CPU, then: CPU, expected: tuple[int, int, int]
) -> None:
    needs("cpu")
    host_make({"cpu": {"quota": 95_000, "period": 100_000}}, name="above")
    cgroup = host_make({"cpu": first}, name="above/one")
    cgroup.update({"cpu": then})
    if detect().v1:
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us")
        words = [value(cgroup, file) for file in files]
    else:
        words = [*value(cgroup, "cpu.max").split(), value(cgroup, "cpu.max.burst")]
    assert tuple(map(int, words)) == expected


def test_what_is_idle_can_get_a_weight_again(host_make: Make) -> None:
    needs("cpu")
    cgroup = host_make({"cpu": {"idle": 1, "shares": 512}})
    assert value(cgroup, "cpu.idle") == "1"
    cgroup.update({"cpu": {"idle": 0, "shares": 512}})
    weight = "512" if detect().v1 else str(weight_of_shares(512))
    assert (value(cgroup, "cpu.idle"), value(cgroup, "cpu.shares", "cpu.weight")) == ("0", weight)


def test_a_limit_of_no_process_at_all_is_one(host_make: Make) -> None:
    needs("pids")
    assert value(host_make({"pids": {"limit": 0}}), "pids.max") == "1"


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        ({"cpu": {"cpus": "0-99999"}}, "cpu.cpus"),
        ({"cpu": {"cpus": "x"}}, "cpu.cpus"),
        ({"cpu": {"quota": 1}}, "cpu.quota"),
        ({"pids": {"limit": 1 << 80}}, "pids.limit"),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 250, "minor": 9, "rate": 1}]}},
            "blockIO.throttleReadBpsDevice",
        ),
    ],
)
def test_a_value_the_kernel_refuses_is_named_and_nothing_stays(
    host_make: Make, parent: str, resources: Resources, field: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=field.replace(".", r"\.")):
        host_make(resources)
    for hierarchy in detect().hierarchies:
        assert not os.path.exists(f"{hierarchy.mountpoint}{parent}/one")


def test_a_limit_that_no_controller_enforces_is_not_ignored(host_make: Make) -> None:
    if "rdma" in detect().controllers:
        pytest.skip("this host has the rdma controller")
    with pytest.raises(UnsupportedError, match="rdma"):
        host_make({"rdma": {"mlx5_1": {"hcaHandles": 3}}})


def test_memory_in_use_cannot_be_limited_away(host_make: Make) -> None:
    """v1 refuses, v2 reclaims and kills: either way no limit is silently left out."""
    needs("memory")
    cgroup = host_make({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}})

    def hold_and_shrink() -> int:
        block = bytearray(32 * MIB)
        try:
            cgroup.update({"memory": {"limit": MIB, "swap": 64 * MIB}})
        except WrongStateError:
            return len(block) and 1
        except OrlopError:
            return 2
        return 3

    assert run_inside(cgroup, hold_and_shrink) in (1, 3, 128 + signal.SIGKILL)
