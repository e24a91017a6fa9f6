"""A command in a sandbox that runs."""

from contextlib import ExitStack
from functools import partial

from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import BenchDriver, milliseconds


def measure(bench: Bench) -> None:
    """Run `true` --starts times in a sandbox of each driver's, in turns."""
    opened: dict[str, str] = {}

    def run(driver: BenchDriver) -> float:
        if driver.name not in opened:
            opened[driver.name] = driver.open()
            stack.callback(driver.remove, [opened[driver.name]])
        return milliseconds(lambda: driver.execute(opened[driver.name]))

    with ExitStack() as stack:
        actions = {driver.name: partial(run, driver) for driver in bench.drivers}
        bench.alternate(actions, bench.plan.starts, partial(bench.add_each, count="execs"))
