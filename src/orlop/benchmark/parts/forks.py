"""Copies of a sandbox's file system: so many at once, started and ready."""

import time

from orlop.benchmark.driver import Driver
from orlop.benchmark.figures import Row, spread
from orlop.benchmark.parts.bench import Bench

_COPIES = 10
_MOST = 20


def measure(bench: Bench) -> None:
    """Fork a sandbox of each driver's that can do that, and remove the forks again."""
    for _, driver in bench.turns(1, bench.drivers):
        bench.attempt(driver, lambda: _fork(bench, driver))  # noqa: B023


def _fork(bench: Bench, driver: Driver) -> None:
    opened = driver.open()
    values: list[float] = []
    try:
        for number in range(min(bench.plan.starts, _MOST) + 1):
            begin = time.perf_counter()
            forks = driver.fork(opened, _COPIES)
            took_ms = 1000 * (time.perf_counter() - begin)
            driver.remove(forks)
            if number:  # the first is not counted
                values.append(took_ms)
    finally:
        driver.remove([opened])
        if values:
            figures = {"forks": len(values) * _COPIES, **spread("", values)}
            case = f"{_COPIES} copies"
            samples = {"ms": values}
            bench.add(
                Row(part="fork", driver=driver.name, case=case, figures=figures, samples=samples)
            )
