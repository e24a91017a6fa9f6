"""Warm sandboxes, handed out: to the answer, and until a command in it has run."""

import time

from orlop.benchmark.driver import Driver, Pool
from orlop.benchmark.figures import Row, spread
from orlop.benchmark.parts.bench import Bench

_SIZE = 4


def measure(bench: Bench) -> None:
    """Take --starts sandboxes from a pool of each driver's that has one, each when it is full."""
    for _, driver in bench.turns(1, bench.drivers):
        bench.attempt(driver, lambda: _take_all(bench, driver))  # noqa: B023
    for driver in bench.drivers:
        if driver.is_floor:
            case = "nothing is asked of the kernel"
            bench.add(Row(part="pool", driver=driver.name, case=case, figures={}))


def _take_all(bench: Bench, driver: Driver) -> None:
    taken: list[float] = []
    ran: list[float] = []
    with driver.pool(_SIZE) as pool:
        try:
            for number in range(bench.plan.starts + 1):
                bench.pulse()
                took_ms, ran_ms = _take(driver, pool)
                if number:  # the first is not counted
                    taken.append(took_ms)
                    ran.append(ran_ms)
        finally:
            if taken:
                bench.add(_row(driver, taken, ran))


def _take(driver: Driver, pool: Pool) -> tuple[float, float]:
    pool.fill()
    begin = time.perf_counter()
    identifier = pool.take()
    took = time.perf_counter()
    try:
        driver.execute(identifier)
        ran = time.perf_counter()
    finally:
        driver.remove([identifier])
    return 1000 * (took - begin), 1000 * (ran - begin)


def _row(driver: Driver, taken: list[float], ran: list[float]) -> Row:
    return Row(
        part="pool",
        driver=driver.name,
        case=f"of {_SIZE}",
        figures={"taken": len(taken), **spread("take", taken), **spread("first_command", ran)},
        samples={"take_ms": taken, "first_command_ms": ran},
    )
