"""One start after the other: to the first instruction, and to the end."""

from functools import partial

from orlop.benchmark.bench import Bench


def measure(bench: Bench) -> None:
    """Start --starts of each driver's, in turns; the first is not counted."""
    starts = {driver.name: driver.once for driver in bench.drivers}
    bench.alternate(starts, bench.plan.starts, partial(bench.add_each, count="starts"))
