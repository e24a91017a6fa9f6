"""Warm sandboxes, handed out: to the answer, and until a command in it has run."""

import time
from functools import partial
from typing import NamedTuple

from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import BenchDriver, ReadySandboxes

_SIZE = 4


class _TakeTimes(NamedTuple):
    """Milliseconds from the call."""

    take_ms: float
    first_command_ms: float


def measure(bench: Bench) -> None:
    """Take --starts sandboxes from a pool of each driver's that has one, each when it is full."""
    bench.each({driver.name: partial(_take_all, bench, driver) for driver in bench.drivers})
    for driver in bench.drivers:
        if driver.is_floor:
            bench.add(driver.name, {}, case="nothing is asked of the kernel")


def _take_all(bench: Bench, driver: BenchDriver) -> None:
    taken: list[_TakeTimes] = []
    with driver.pool(_SIZE) as pool:
        try:
            for number in range(bench.plan.starts + 1):
                bench.pulse()
                one = _take(driver, pool)
                if number:  # the first is not counted
                    taken.append(one)
        finally:
            if taken:
                bench.add_each({driver.name: taken}, case=f"of {_SIZE}", count="taken")


def _take(driver: BenchDriver, pool: ReadySandboxes) -> _TakeTimes:
    pool.fill()
    begin = time.perf_counter()
    identifier = pool.take()
    took = time.perf_counter()
    try:
        driver.execute(identifier)
        ran = time.perf_counter()
    finally:
        driver.remove([identifier])
    return _TakeTimes(1000 * (took - begin), 1000 * (ran - begin))
