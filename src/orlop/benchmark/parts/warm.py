"""One start after the other: to the first instruction, and to the end."""

from collections.abc import Mapping

from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import Start, samples_of
from orlop.benchmark.figures import spread


def measure(bench: Bench) -> None:
    """Start --starts of each driver's, in turns; the first is not counted."""

    def add(found: Mapping[str, list[Start]]) -> None:
        for name, starts in found.items():
            samples = samples_of(starts)
            figures = {"starts": len(starts), **spread(samples)}
            bench.add(name, figures, at=1, samples=samples)

    bench.alternate({one.name: one.once for one in bench.drivers}, bench.plan.starts, add)
