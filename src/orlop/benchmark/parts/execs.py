"""A command in a sandbox that runs."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import Driver, milliseconds
from orlop.benchmark.figures import spread


def measure(bench: Bench) -> None:
    """Run `true` --starts times in a sandbox of each driver's, in turns."""
    opened: dict[str, str] = {}

    def run(driver: Driver) -> float:
        if driver.name not in opened:
            opened[driver.name] = driver.open()
            stack.callback(driver.remove, [opened[driver.name]])
        return milliseconds(lambda: driver.execute(opened[driver.name]))

    def add(found: Mapping[str, list[float]]) -> None:
        for name, values in found.items():
            samples = {"ms": values}
            bench.add(name, {"execs": len(values), **spread(samples)}, samples=samples)

    with ExitStack() as stack:
        actions = {driver.name: partial(run, driver) for driver in bench.drivers}
        bench.alternate(actions, bench.plan.starts, add)
