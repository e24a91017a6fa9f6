"""Copies of a sandbox's file system: until they are made, started, and have run a command."""

import os
import time
from functools import partial
from typing import NamedTuple

from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import BenchDriver
from orlop.benchmark.figures import samples_of, spread

_COPIES = 10
_MOST = 20
#: What it has written: so many files of so many bytes.
_FILES, _BYTES = 16, 64 << 10


class _ForkTimes(NamedTuple):
    """Milliseconds from the call."""

    ms: float
    started_ms: float
    commands_in_all_ms: float


def measure(bench: Bench) -> None:
    """Fork a sandbox of each driver's that can do that, and remove the forks again."""
    bench.each({driver.name: partial(_fork_all, bench, driver) for driver in bench.drivers})


def _fork_all(bench: Bench, driver: BenchDriver) -> None:
    opened = driver.open()
    taken: list[_ForkTimes] = []
    try:
        for number in range(_FILES):
            driver.write(opened, f"state-{number}", os.urandom(_BYTES))
        for number in range(min(bench.plan.starts, _MOST) + 1):
            bench.pulse()
            one = _fork(driver, opened)
            if number:  # the first is not counted
                taken.append(one)
    finally:
        driver.remove([opened])
        if taken:
            _add(bench, driver, taken)


def _fork(driver: BenchDriver, opened: str) -> _ForkTimes:
    begin = time.perf_counter()
    forked = driver.fork(opened, _COPIES)
    started = time.perf_counter()
    try:
        for fork in forked.ids:
            driver.execute(fork)
        ran = time.perf_counter()
    finally:
        driver.remove(forked.ids)
    return _ForkTimes(*(1000 * (at - begin) for at in (forked.answered_s, started, ran)))


def _add(bench: Bench, driver: BenchDriver, taken: list[_ForkTimes]) -> None:
    samples = samples_of(taken)
    figures = {"forks": len(taken) * _COPIES, **spread(samples)}
    case = f"{_COPIES} copies of {_FILES * _BYTES >> 20} MiB"
    bench.add(driver.name, figures, case=case, samples=samples)
