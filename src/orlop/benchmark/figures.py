"""Figures, as rows: of a part, a driver and a case, by names that end with their unit."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Row:
    part: str
    driver: str
    case: str = ""  # in words
    at: float = 0.0  # the case as a number: clients, or sandboxes that live
    figures: Mapping[str, float]
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)  # every single value


@dataclass(kw_only=True)
class Results:
    """What has been found so far; written out also when the run is interrupted."""

    machine: Mapping[str, object]
    plan: Mapping[str, object]
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    interrupted: bool = False


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest value that *share* of the values are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return median and 99th percentile of milliseconds, as figures called after *name*."""
    if not values:
        return {}
    front = f"{name}_" if name else ""
    return {
        f"{front}p50_ms": statistics.median(values),
        f"{front}p99_ms": percentile(values, 0.99),
    }
