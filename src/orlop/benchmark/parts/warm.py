"""One start after the other: to the first instruction, and to the end."""

from collections import defaultdict

from orlop.benchmark.driver import Driver, Start
from orlop.benchmark.figures import Row, spread
from orlop.benchmark.parts.bench import Bench


def measure(bench: Bench) -> None:
    """Start --starts of each driver's, in turns; the first is not counted."""
    found: dict[str, list[Start]] = defaultdict(list)

    def start(driver: Driver) -> None:
        found[driver.name].append(driver.once())

    try:
        for _, driver in bench.turns(bench.plan.starts + 1, bench.drivers):
            bench.attempt(driver, lambda driver=driver: start(driver))  # type: ignore[misc]
    finally:
        for name, starts in found.items():
            _add(bench, name, starts[1:])


def _add(bench: Bench, name: str, starts: list[Start]) -> None:
    if not starts:
        return
    first, total = [one.first_ms for one in starts], [one.total_ms for one in starts]
    bench.add(
        Row(
            part="warm",
            driver=name,
            at=1,
            figures={"starts": len(starts), **spread("first", first), **spread("total", total)},
            samples={"first_ms": first, "total_ms": total},
        )
    )
