"""A command in a sandbox that runs."""

import time
from collections import defaultdict
from contextlib import ExitStack

from orlop.benchmark.driver import Driver
from orlop.benchmark.figures import Row, spread
from orlop.benchmark.parts.bench import Bench


def measure(bench: Bench) -> None:
    """Run `true` --starts times in a sandbox of each driver's, in turns."""
    found: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        opened: dict[str, str] = {}

        def run(driver: Driver) -> None:
            if driver.name not in opened:
                opened[driver.name] = driver.open()
                stack.callback(driver.remove, [opened[driver.name]])
            begin = time.perf_counter()
            driver.execute(opened[driver.name])
            found[driver.name].append(1000 * (time.perf_counter() - begin))

        try:
            for _, driver in bench.turns(bench.plan.starts + 1, bench.drivers):
                bench.attempt(driver, lambda driver=driver: run(driver))  # type: ignore[misc]
        finally:
            for name, values in found.items():
                if values[1:]:
                    figures = {"execs": len(values) - 1, **spread("", values[1:])}
                    samples = {"ms": values[1:]}
                    bench.add(Row(part="exec", driver=name, figures=figures, samples=samples))
