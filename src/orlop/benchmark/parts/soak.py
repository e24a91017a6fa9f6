"""Very many, one wave after the other, and then what is left of them."""

import statistics
import time
from collections.abc import Sequence
from functools import partial

from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import BenchDriver, TimedStart
from orlop.benchmark.load import load
from orlop.benchmark.processes import remains

_CLIENTS = 4
_WAVES = 10
_QUIET_S = 15.0
_POLL_S = 0.5


def measure(bench: Bench) -> None:
    """Start --soak sandboxes of each of Orlop's drivers, and count what is left.

    Of `orlop run` a tenth. Of the floor as many, and nothing is counted that is left.
    """
    drivers = [one for one in bench.drivers if one.is_orlop or one.is_floor]
    bench.each({driver.name: partial(_soak, bench, driver) for driver in drivers})


def _soak(bench: Bench, driver: BenchDriver) -> None:
    usual = driver.name.startswith("orlop run")  # has files for each, and takes its time
    wave = max(_CLIENTS, bench.plan.soak // _WAVES // (_WAVES if usual else 1))
    load(driver.once, clients=_CLIENTS, count=wave, pulse=bench.pulse)  # pools are as they will be
    before = remains(driver.marks)
    begin = time.monotonic()
    waves: list[list[TimedStart]] = []
    try:
        for number in range(_WAVES):
            bench.progress(number / _WAVES, driver.name)
            done = load(driver.once, clients=_CLIENTS, count=wave, pulse=bench.pulse).done
            waves.append(done)
    finally:
        if waves:
            figures = _figures(waves, time.monotonic() - begin)
            figures |= {} if driver.is_floor else _left(driver, before)
            case = f"{figures['starts']:.0f} in a row"
            bench.add(driver.name, figures, case=case, at=figures["starts"])


def _figures(waves: Sequence[Sequence[TimedStart]], took_s: float) -> dict[str, float]:
    count = sum(len(wave) for wave in waves)
    return {
        "starts": count,
        "per_second": count / took_s,
        "first_tenth_p50_ms": statistics.median(one.first_ms for one in waves[0]),
        "last_tenth_p50_ms": statistics.median(one.first_ms for one in waves[-1]),
    }


def _left(driver: BenchDriver, before: dict[str, int]) -> dict[str, int]:
    """Count what is left once removal that was put off is done: nothing gets less any more."""
    deadline = time.monotonic() + _QUIET_S
    after = remains(driver.marks)
    while _more(before, after) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        last, after = after, remains(driver.marks)
        if not _more(after, last):
            break
    return {f"left_{name}": number - before[name] for name, number in after.items()}


def _more(base: dict[str, int], counts: dict[str, int]) -> bool:
    """Whether there is more of anything that can be counted; memory never comes to rest."""
    return any(counts[name] > base[name] for name in base if name != "pss_kb")
