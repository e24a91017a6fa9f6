"""Warm sandboxes, handed out: to the answer, and until a command in it has run."""

import time
from functools import partial

from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import Driver, Pool
from orlop.benchmark.figures import spread

_SIZE = 4


def measure(bench: Bench) -> None:
    """Take --starts sandboxes from a pool of each driver's that has one, each when it is full."""
    bench.each({driver.name: partial(_take_all, bench, driver) for driver in bench.drivers})
    for driver in bench.drivers:
        if driver.is_floor:
            bench.add(driver.name, {}, case="nothing is asked of the kernel")


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
                samples = {"take_ms": taken, "first_command_ms": ran}
                figures = {"taken": len(taken), **spread(samples)}
                bench.add(driver.name, figures, case=f"of {_SIZE}", samples=samples)


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
