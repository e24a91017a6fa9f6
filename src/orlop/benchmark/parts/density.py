"""Many that live: what each weighs, what a start takes beside them, and their removal."""

import statistics
import time
from collections.abc import Sequence

from orlop.benchmark.driver import Driver
from orlop.benchmark.figures import Row, spread
from orlop.benchmark.load import load
from orlop.benchmark.parts.bench import Bench
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
    for _, driver in bench.turns(1, drivers):
        if driver.marks or not driver.is_orlop:
            bench.attempt(driver, lambda: _fill(bench, driver))  # noqa: B023


def levels(most: int) -> list[int]:
    """Return the numbers of sandboxes at which is measured."""
    return sorted({0, 1, max(1, most // 10), most})


def _fill(bench: Bench, driver: Driver) -> None:
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
            bench.add(_row(bench, driver, len(opened), idle_kb))
    finally:
        _remove(bench, driver, opened)


def _open(bench: Bench, driver: Driver, count: int, opened: list[str]) -> None:
    """Open so many; *opened* has each of them, also when that is interrupted."""

    def open_one() -> None:
        opened.append(driver.open())

    failures = load(open_one, clients=_OPENERS, count=count, pulse=bench.pulse).failures
    if failures:
        bench.left_out(f"{driver.name}: {len(failures)} of {count} not opened: {failures[0]}")


def _row(bench: Bench, driver: Driver, live: int, idle_kb: int) -> Row:
    starts = []
    for _ in range(_STARTS):
        bench.pulse()
        starts.append(driver.once())
    first, total = [one.first_ms for one in starts], [one.total_ms for one in starts]
    figures = {**spread("first", first), "total_p50_ms": statistics.median(total)}
    if driver.marks:
        weight_kb = pss_kb(list(marked(driver.marks)))
        figures["engine_pss_mb"] = weight_kb / 1000
        if live:
            figures["pss_each_kb"] = weight_kb / live
            figures["pss_more_each_kb"] = (weight_kb - idle_kb) / live
    return Row(
        part="density",
        driver=driver.name,
        case=f"{live} live",
        at=live,
        figures=figures,
        samples={"first_ms": first, "total_ms": total},
    )


def _remove(bench: Bench, driver: Driver, opened: Sequence[str]) -> None:
    begin = time.monotonic()
    driver.remove(opened)
    took_s = time.monotonic() - begin
    bench.add(
        Row(
            part="density",
            driver=driver.name,
            case=f"removal of {len(opened)}",
            at=-1,
            figures={"removal_s": took_s},
        )
    )
