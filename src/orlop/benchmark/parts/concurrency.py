"""Many clients at once, each starting one sandbox after the other."""

import statistics
from collections import defaultdict
from functools import partial

from orlop.benchmark import machine
from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import BenchDriver, TimedStart
from orlop.benchmark.figures import samples_of, spread
from orlop.benchmark.load import Wave, load
from orlop.benchmark.processes import cpu_s, marked

_PEERS_SHARE = 10  # of a wave: they take longer by more than that
_IDLE_S = 0.5
_Waves = dict[tuple[str, int], list[Wave[TimedStart]]]


def measure(bench: Bench) -> None:
    """Run a wave of each driver's for each number of clients, in turns, --rounds times."""
    found: _Waves = defaultdict(list)
    try:
        actions = {driver.name: partial(_waves, bench, driver, found) for driver in bench.drivers}
        bench.each(actions, bench.plan.rounds)
    finally:
        for (name, clients), loads in found.items():
            _add(bench, name, clients, loads)


def _waves(bench: Bench, driver: BenchDriver, found: _Waves) -> None:
    """Run a wave for each number of clients; a peer is given no more than it can bear."""
    most = max(bench.plan.clients) if driver.is_orlop else bench.plan.limit
    for clients in sorted({min(count, most) for count in bench.plan.clients}):
        _wave(bench, driver, clients, found)


def _wave(bench: Bench, driver: BenchDriver, clients: int, found: _Waves) -> None:
    wave = bench.plan.wave if driver.is_orlop else max(1, bench.plan.wave // _PEERS_SHARE)
    idle = machine.idle_share(_IDLE_S)
    count = max(wave, clients)
    before_s = cpu_s(list(marked(driver.marks)))
    done = load(driver.once, clients=clients, count=count, idle=idle, pulse=bench.pulse)
    if driver.is_orlop:  # of peers, nobody waits for the shims, and so their time is not known
        done.engine_cpu_s = cpu_s(list(marked(driver.marks))) - before_s
    found[driver.name, clients].append(done)
    if done.failures:
        bench.left_out(f"{driver.name}: {len(done.failures)} starts failed: {done.failures[0]}")


def _add(bench: Bench, name: str, clients: int, loads: list[Wave[TimedStart]]) -> None:
    samples = samples_of([start for one in loads for start in one.done])
    count = len(samples["first_ms"])
    figures = {
        "starts": count,
        "per_second": statistics.median(one.rate for one in loads),
        "makespan_s": statistics.median(one.makespan_s for one in loads),
        **spread(samples),
        "cpu_ms": 1000 * sum(one.cpu_s for one in loads) / count,
        **_parts_of_cpu(loads, count),
    }
    samples["per_second"] = [one.rate for one in loads]
    bench.add(name, figures, case=f"{clients} at once", at=clients, samples=samples)


def _parts_of_cpu(loads: list[Wave[TimedStart]], count: int) -> dict[str, float]:
    found = {
        "engine_cpu_ms": sum(one.engine_cpu_s for one in loads),
        "generator_cpu_ms": sum(one.generator_cpu_s for one in loads),
        "clients_cpu_ms": sum(one.clients_cpu_s for one in loads),
    }
    return {name: 1000 * seconds / count for name, seconds in found.items() if seconds}
