"""Figures, as rows: of a part, a driver and a case, by names that end with their unit."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    part: str
    driver: str
    case: str  # in words
    at: float  # the case as a number: clients, or sandboxes that live
    figures: Mapping[str, float]
    samples: Mapping[str, Sequence[float]]  # every single value


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest value that *share* of the values are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def samples_of(values: Sequence[Any]) -> dict[str, list[float]]:
    """Return what was measured several times as series: milliseconds, or tuples by their names."""
    if not values:
        return {}
    if isinstance(values[0], float):
        return {"ms": list(values)}
    columns = zip(values[0]._fields, zip(*values, strict=True), strict=True)
    return {name: list(column) for name, column in columns}


def spread(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return median and 99th percentile of each series of milliseconds, called after it."""
    figures = {}
    for name, values in samples.items():
        figures[name.removesuffix("ms") + "p50_ms"] = statistics.median(values)
        figures[name.removesuffix("ms") + "p99_ms"] = percentile(values, 0.99)
    return figures
