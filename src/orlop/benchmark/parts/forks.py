"""Copies of a sandbox's file system: until all are started, and until each has run a command."""

import os
import time

from orlop.benchmark.driver import Driver
from orlop.benchmark.figures import Row, spread
from orlop.benchmark.parts.bench import Bench

_COPIES = 10
_MOST = 20
#: What it has written: so many files of so many bytes.
_FILES, _BYTES = 16, 64 << 10


def measure(bench: Bench) -> None:
    """Fork a sandbox of each driver's that can do that, and remove the forks again."""
    for _, driver in bench.turns(1, bench.drivers):
        bench.attempt(driver, lambda: _fork_all(bench, driver))  # noqa: B023


def _fork_all(bench: Bench, driver: Driver) -> None:
    opened = driver.open()
    started: list[float] = []
    ran: list[float] = []
    try:
        for number in range(_FILES):
            driver.write(opened, f"state-{number}", os.urandom(_BYTES))
        for number in range(min(bench.plan.starts, _MOST) + 1):
            bench.pulse()
            started_ms, ran_ms = _fork(driver, opened)
            if number:  # the first is not counted
                started.append(started_ms)
                ran.append(ran_ms)
    finally:
        driver.remove([opened])
        if started:
            bench.add(_row(driver, started, ran))


def _fork(driver: Driver, opened: str) -> tuple[float, float]:
    begin = time.perf_counter()
    forks = driver.fork(opened, _COPIES)
    started = time.perf_counter()
    try:
        for fork in forks:
            driver.execute(fork)
        ran = time.perf_counter()
    finally:
        driver.remove(forks)
    return 1000 * (started - begin), 1000 * (ran - begin)


def _row(driver: Driver, started: list[float], ran: list[float]) -> Row:
    return Row(
        part="fork",
        driver=driver.name,
        case=f"{_COPIES} copies of {_FILES * _BYTES >> 20} MiB",
        figures={
            "forks": len(started) * _COPIES,
            **spread("", started),
            **spread("commands_in_all", ran),
        },
        samples={"ms": started, "commands_ms": ran},
    )
