"""Many that live: what each weighs, what a start takes beside them, and their removal."""

import time
from collections.abc import Sequence
from functools import partial

from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import BenchDriver
from orlop.benchmark.figures import samples_of, spread
from orlop.benchmark.load import load
from orlop.benchmark.processes import marked, pss_kb

_OPENERS = 4
_STARTS = 40  # timed at each level
_SETTLE_S = 2.0  # until pools are full again that the opening has emptied


def measure(bench: Bench) -> None:
    """Have 0, 1, a tenth and all of --live sandboxes (--peer-density of a peer's) run at a time.

    Of Orlop's drivers the first: the sandboxes that live are the same for all.
    """
    drivers = [driver for driver in bench.drivers if not driver.is_orlop]
    drivers[:0] = [driver for driver in bench.drivers if driver.is_orlop][:1]
    bench.each({driver.name: partial(_fill, bench, driver) for driver in drivers})


def levels(most: int) -> list[int]:
    """Return the numbers of sandboxes at which is measured."""
    return sorted({0, 1, max(1, most // 10), most})


def _fill(bench: Bench, driver: BenchDriver) -> None:
    most = bench.plan.live if driver.is_orlop else bench.plan.peer_density
    opened: list[str] = []
    driver.once()  # all is loaded that a start needs
    idle_kb = pss_kb(list(marked(driver.marks)))
    try:
        for level in levels(most):
            if level > len(opened):
                wanted = level - len(opened)
                _open(bench, driver, wanted, opened)
                time.sleep(_SETTLE_S)
            bench.progress(len(opened) / most, f"{driver.name}, {len(opened)} live")
            _starts(bench, driver, len(opened), idle_kb)
    finally:
        _remove(bench, driver, opened)


def _open(bench: Bench, driver: BenchDriver, count: int, opened: list[str]) -> None:
    """Open so many; *opened* has each of them, also when that is interrupted."""

    def open_one() -> None:
        opened.append(driver.open())

    failures = load(open_one, clients=_OPENERS, count=count, pulse=bench.pulse).failures
    if failures:
        bench.left_out(f"{driver.name}: {len(failures)} of {count} not opened: {failures[0]}")


def _starts(bench: Bench, driver: BenchDriver, live: int, idle_kb: int) -> None:
    starts = []
    for _ in range(_STARTS):
        bench.pulse()
        starts.append(driver.once())
    samples = samples_of(starts)
    figures = spread(samples)
    figures.pop("total_p99_ms")
    if driver.marks:
        weight_kb = pss_kb(list(marked(driver.marks)))
        figures["engine_pss_mb"] = weight_kb / 1000
        if live:
            figures["pss_each_kb"] = weight_kb / live
            figures["pss_more_each_kb"] = (weight_kb - idle_kb) / live
    bench.add(driver.name, figures, case=f"{live} live", at=live, samples=samples)


def _remove(bench: Bench, driver: BenchDriver, opened: Sequence[str]) -> None:
    begin = time.monotonic()
    driver.remove(opened)
    figures = {"removal_s": time.monotonic() - begin}
    bench.add(driver.name, figures, case=f"removal of {len(opened)}", at=-1)
