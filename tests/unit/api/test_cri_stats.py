"""From counters to the CRI's statistics."""

from orlop.api.cri import render_stats, v1
from orlop.api.cri.batches import batches
from orlop.kernel.netlink.links import Counters
from orlop.runtime.cgroups import Statistics
from orlop.runtime.cgroups.interface import CpuStatistics, MemoryStatistics, Stall

_STALL = Stall(avg10=1.5, avg60=2.5, avg300=3.5, total_us=7)


def test_memory_of_both_cgroup_versions_is_read_with_the_cgroups_below() -> None:
    first = {"rss": 1, "total_rss": 30, "inactive_file": 2, "total_inactive_file": 40}
    second = {"anon": 30, "inactive_file": 40}
    for stat in (first, second):
        counted = Statistics(memory=MemoryStatistics(usage_bytes=100, limit_bytes=500, stat=stat))
        told = render_stats.memory(counted, 9)
        assert (told.timestamp, told.rss_bytes.value) == (9, 30)
        assert (told.working_set_bytes.value, told.available_bytes.value) == (60, 440)


def test_without_a_limit_nothing_is_said_of_available_memory() -> None:
    assert not render_stats.memory(Statistics(), 1).HasField("available_bytes")


def test_pressure_is_told_where_the_kernel_measures_it() -> None:
    counted = Statistics(
        cpu=CpuStatistics(usage_ns=5), pressure={"cpu": {"some": _STALL}, "io": {"full": _STALL}}
    )
    told = render_stats.cpu(counted, 1, 6)
    assert (told.usage_core_nano_seconds.value, told.usage_nano_cores.value) == (5, 6)
    assert told.psi.Some == v1.PsiData(Total=7000, Avg10=1.5, Avg60=2.5, Avg300=3.5)
    assert not told.psi.HasField("Full")
    waits = render_stats.io(counted, 1)
    assert waits is not None
    assert waits.psi.Full.Total == 7000
    assert render_stats.io(Statistics(), 1) is None


def test_the_first_interface_is_the_default_one() -> None:
    seen = Counters(1, 2, 3, 4, 5, 6, 7, 8)
    told = render_stats.network({"eth0": seen, "net1": seen}, 1)
    assert (told.default_interface.name, told.default_interface.tx_bytes.value) == ("eth0", 4)
    assert [one.name for one in told.interfaces] == ["net1"]


def test_batches_have_every_item_once_and_are_never_empty() -> None:
    cut = list(batches(range(600)))
    assert [item for batch in cut for item in batch] == list(range(600))
    assert all(cut)
    assert len(cut) > 1
    assert list(batches([])) == []
