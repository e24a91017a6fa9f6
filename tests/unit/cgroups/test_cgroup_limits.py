import pytest

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.oci import Resources
from orlop.runtime.cgroups import v1_limits, v2_limits
from orlop.runtime.cgroups.interface import Write


def pairs(writes: list[Write]) -> list[tuple[str, str]]:
    return [(write.file, write.value) for write in writes]


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (262_144, 10_000)])
def test_shares_and_weights_agree_on_least_default_and_most(shares: int, weight: int) -> None:
    assert v2_limits.weight_of_shares(shares) == weight


def test_more_shares_never_mean_less_weight() -> None:
    weights = [v2_limits.weight_of_shares(shares) for shares in range(2, 300_000, 97)]
    assert weights == sorted(weights)
    assert weights[0] >= 1
    assert weights[-1] == 10_000


def test_swap_is_a_sum_in_v1_and_a_difference_in_v2() -> None:
    resources: Resources = {"memory": {"limit": 100, "swap": 150}}
    assert pairs(v1_limits.files(resources)) == [
        ("memory.limit_in_bytes", "100"),
        ("memory.memsw.limit_in_bytes", "150"),
    ]
    assert pairs(v2_limits.files(resources)) == [
        ("memory.swap.max", "50"),
        ("memory.max", "100"),
    ]


def test_lifting_the_memory_limit_lifts_the_sum_first() -> None:
    resources: Resources = {"memory": {"limit": -1}}
    assert pairs(v1_limits.files(resources)) == [
        ("memory.memsw.limit_in_bytes", "-1"),
        ("memory.limit_in_bytes", "-1"),
    ]
    assert pairs(v2_limits.files(resources)) == [("memory.swap.max", "max"), ("memory.max", "max")]


def test_swap_equal_to_memory_means_none_in_v2() -> None:
    resources: Resources = {"memory": {"limit": 100, "swap": 100}}
    assert ("memory.swap.max", "0") in pairs(v2_limits.files(resources))


def test_less_swap_than_memory_is_refused_by_name() -> None:
    resources: Resources = {"memory": {"limit": 100, "swap": 50}}
    for files in (v1_limits.files, v2_limits.files):
        with pytest.raises(InvalidArgumentError, match=r"memory\.swap 50"):
            files(resources)


def test_v2_cannot_say_swap_without_memory() -> None:
    with pytest.raises(InvalidArgumentError, match=r"memory\.limit"):
        v2_limits.files({"memory": {"swap": 50}})


def test_the_period_is_written_before_the_quota() -> None:
    files = [
        file for file, _ in pairs(v1_limits.files({"cpu": {"quota": 20_000, "period": 50_000}}))
    ]
    assert files == ["cpu.cfs_period_us", "cpu.cfs_quota_us"]


@pytest.mark.parametrize(
    ("quota", "period", "value"),
    [(20_000, 50_000, "20000 50000"), (20_000, 0, "20000 100000"), (-1, 0, "max 100000")],
)
def test_quota_and_period_are_one_line_in_v2(quota: int, period: int, value: str) -> None:
    resources: Resources = {"cpu": {"quota": quota, "period": period}}
    assert pairs(v2_limits.files(resources)) == [("cpu.max", value)]


@pytest.mark.parametrize(("limit", "value"), [(7, "7"), (-1, "max"), (0, "max")])
def test_pids_without_a_limit_are_max(limit: int, value: str) -> None:
    for files in (v1_limits.files, v2_limits.files):
        assert pairs(files({"pids": {"limit": limit}})) == [("pids.max", value)]


def test_block_weights_fall_back_to_the_file_that_the_kernel_has() -> None:
    resources: Resources = {"blockIO": {"weight": 10}}
    (v1,), (v2,) = v1_limits.files(resources), v2_limits.files(resources)
    assert v1.instead is not None
    assert v1.instead.file == "blkio.bfq.weight"
    assert v2.instead is not None
    assert (v2.instead.file, v2.instead.value) == ("io.weight", "default 1")


def test_throttles_name_the_device() -> None:
    resources: Resources = {
        "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 1024}]}
    }
    assert pairs(v1_limits.files(resources)) == [("blkio.throttle.read_bps_device", "8:16 1024")]
    assert pairs(v2_limits.files(resources)) == [("io.max", "8:16 rbps=1024")]


@pytest.mark.parametrize("file", ["../x", "cgroup.procs", "cgroup.kill", "memory", "a/b.c", ""])
def test_unified_reaches_controllers_files_only(file: str) -> None:
    with pytest.raises(InvalidArgumentError):
        v2_limits.files({"unified": {file: "1"}})


def test_a_page_size_cannot_be_a_path() -> None:
    resources: Resources = {"hugepageLimits": [{"pageSize": "/../../x", "limit": 1}]}
    for files in (v1_limits.files, v2_limits.files):
        with pytest.raises(InvalidArgumentError):
            files(resources)


def test_what_v2_lacks_is_not_silently_dropped() -> None:
    unsupported: list[Resources] = [{"network": {"classID": 1}}, {"cpu": {"realtimeRuntime": 1}}]
    for resources in unsupported:
        with pytest.raises(UnsupportedError):
            v2_limits.files(resources)
