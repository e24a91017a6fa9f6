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


@pytest.mark.parametrize(("limit", "value"), [(7, "7"), (-1, "max"), (0, "1")])
def test_pids_below_zero_are_no_limit_and_zero_is_one(limit: int, value: str) -> None:
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


def test_what_is_idle_has_no_weight() -> None:
    resources: Resources = {"cpu": {"shares": 512, "idle": 1}}
    for files in (v1_limits.files, v2_limits.files):
        assert pairs(files(resources)) == [("cpu.idle", "1")]


def test_reserved_huge_pages_are_limited_too_where_they_are_counted() -> None:
    resources: Resources = {"hugepageLimits": [{"pageSize": "2MB", "limit": 7}]}
    v1, v2 = v1_limits.files(resources), v2_limits.files(resources)
    assert pairs(v1) == [
        ("hugetlb.2MB.rsvd.limit_in_bytes", "7"),
        ("hugetlb.2MB.limit_in_bytes", "7"),
    ]
    assert pairs(v2) == [("hugetlb.2MB.rsvd.max", "7"), ("hugetlb.2MB.max", "7")]
    assert [write.optional for write in (*v1, *v2)] == [True, False, True, False]


@pytest.mark.parametrize("value", [-1, 101])
def test_swappiness_has_bounds(value: int) -> None:
    with pytest.raises(InvalidArgumentError, match="swappiness"):
        v1_limits.files({"memory": {"swappiness": value}})


def test_each_block_io_field_has_its_file() -> None:
    resources: Resources = {"blockIO": {
        "weight": 100, "leafWeight": 10,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 200, "leafWeight": 5}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}],
    }}  # fmt: skip
    assert pairs(v1_limits.files(resources)) == [
        ("blkio.weight", "100"),
        ("blkio.weight_device", "8:0 200"),
        ("blkio.throttle.read_bps_device", "8:0 1"),
        ("blkio.throttle.write_bps_device", "8:0 2"),
        ("blkio.throttle.read_iops_device", "8:0 3"),
        ("blkio.throttle.write_iops_device", "8:0 4"),
    ]
    assert pairs(v2_limits.files(resources)) == [
        ("io.bfq.weight", "100"),
        ("io.bfq.weight", "8:0 200"),
        ("io.max", "8:0 rbps=1"),
        ("io.max", "8:0 wbps=2"),
        ("io.max", "8:0 riops=3"),
        ("io.max", "8:0 wiops=4"),
    ]


def test_network_and_rdma_have_their_files() -> None:
    network: Resources = {
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}},
    }
    assert pairs(v1_limits.files(network)) == [
        ("net_cls.classid", "1048577"),
        ("net_prio.ifpriomap", "eth0 5"),
        ("rdma.max", "mlx5_1 hca_handle=3 hca_object=10"),
    ]


def test_realtime_limits_have_their_files() -> None:
    cpu: Resources = {"cpu": {"realtimePeriod": 7, "realtimeRuntime": 5, "burst": 3}}
    assert pairs(v1_limits.files(cpu)) == [
        ("cpu.cfs_burst_us", "3"),
        ("cpu.rt_period_us", "7"),
        ("cpu.rt_runtime_us", "5"),
    ]


def test_unified_files_are_written_line_by_line() -> None:
    lines = "259:0 rbps=2097152 wiops=120\n253:0 rbps=2097152 wiops=120"
    assert pairs(v2_limits.files({"unified": {"io.max": lines, "hugetlb.1GB.max": "5"}})) == [
        ("io.max", "259:0 rbps=2097152 wiops=120"),
        ("io.max", "253:0 rbps=2097152 wiops=120"),
        ("hugetlb.1GB.max", "5"),
    ]
