"""Alternating measurements: A B C A B C …, so that the machine's moods hit all alike."""

import json
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple


class Series(NamedTuple):
    """Durations of one thing, in milliseconds."""

    values_ms: list[float]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.values_ms)

    @property
    def p99_ms(self) -> float:
        ordered = sorted(self.values_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def alternate(
    actions: Mapping[str, Callable[[], None]],
    *,
    rounds: int,
    before: Mapping[str, Callable[[], None]] | None = None,
) -> dict[str, Series]:
    """Time each action *rounds* times in turn, after one round that is not counted.

    *before* has what makes an action possible again and is not timed.
    """
    values: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            if before and name in before:
                before[name]()
            begin = time.perf_counter()
            action()
            if number:
                values[name].append((time.perf_counter() - begin) * 1e3)
    return {name: Series(series) for name, series in values.items()}


def save(path: Path | None, values: object) -> None:
    """Write *values* as JSON where a *path* was asked for."""
    if path is not None:
        path.write_text(json.dumps(values, indent=1))


def end_in_order() -> None:
    """From now on SIGTERM raises SystemExit, so that what was started is ended, too."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
