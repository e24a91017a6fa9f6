"""Starts beside a sandbox that misbehaves within its limits."""

import statistics
import time
from functools import partial

from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import BenchDriver

_CPUS = 0.25
_SETTLED_S = 0.5  # after its start, whose own work is none of what it does
_GROUPS = 5  # of starts, alone and beside it in turns
_MOST = 50
#: Each is bounded by the limits of its sandbox (memory, pids, cpus), and in what it writes.
NEIGHBOURS = {
    "fork bomb": "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do"
    " (while :; do (:) & (:); done) 2>/dev/null & done; while :; do :; done",
    "memory hog": "while :; do tail /dev/zero; done",
    "log flood": "yes 'a line of the flood' | head -c 200000000; sleep 3600",
    "ignores SIGTERM": "trap '' TERM INT HUP; while :; do :; done",
    "disk filler": "for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=/filling bs=1M count=128"
    " 2>/dev/null; done; rm /filling; sleep 3600",
}


def measure(bench: Bench) -> None:
    """Time starts alone and beside each neighbour, of each driver that has limits.

    The floor has none: its starts are beside Orlop's neighbours.
    """
    drivers = [driver for driver in bench.drivers if driver.is_orlop][:1]
    ours = drivers[0]
    drivers += [one for one in bench.drivers if not one.is_orlop and (one.marks or one.is_floor)]
    hosts = [ours if driver.is_floor else driver for driver in drivers]
    both = zip(drivers, hosts, strict=True)
    bench.each({driver.name: partial(_all, bench, driver, host) for driver, host in both})


def _all(bench: Bench, driver: BenchDriver, host: BenchDriver) -> None:
    driver.once()
    for position, kind in enumerate(NEIGHBOURS):
        bench.progress(position / len(NEIGHBOURS), f"{driver.name}, {kind}")
        _beside(bench, driver, host, kind)


def _beside(bench: Bench, driver: BenchDriver, host: BenchDriver, kind: str) -> None:
    """Time *driver*'s starts alone and beside what misbehaves in a sandbox of *host*'s."""
    alone: list[float] = []
    beside: list[float] = []
    removals_s = []
    each = max(1, min(bench.plan.starts, _MOST) // _GROUPS)
    for _ in range(_GROUPS):
        alone += _starts(bench, driver, each)
        neighbour = host.open(["sh", "-c", NEIGHBOURS[kind]], cpus=_CPUS)
        try:
            time.sleep(_SETTLED_S)
            beside += _starts(bench, driver, each)
        finally:
            begin = time.monotonic()
            host.remove([neighbour])
            removals_s.append(time.monotonic() - begin)
    without = statistics.median(alone)
    with_it = statistics.median(beside)
    figures = {"alone_p50_ms": without, "beside_p50_ms": with_it, "ratio": with_it / without}
    if host is driver:
        figures["removal_s"] = statistics.median(removals_s)
    bench.add(driver.name, figures, case=kind, samples={"alone_ms": alone, "beside_ms": beside})


def _starts(bench: Bench, driver: BenchDriver, count: int) -> list[float]:
    """Time some, after one that is not counted: what came just before is no part of it."""
    first_ms = []
    for _ in range(count + 1):
        bench.pulse()
        first_ms.append(driver.once().first_ms)
    return first_ms[1:]
