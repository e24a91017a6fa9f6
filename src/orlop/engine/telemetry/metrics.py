"""Counters, histograms and gauges, in Prometheus's text format.

We have our own, because importing `prometheus-client` takes 30 ms: docs/metrics.md. For the
event loop only, so there are no locks. A family has at most _MOST_SERIES values of its label;
later ones count as "other", or, for gauges, are left out. The reader of a gauge may set another
limit.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

_MOST_SERIES = 100
_OTHER = "other"

#: From the shortest step to an image that is not cached, in seconds.
BUCKETS_S = (
    0.00001, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0,
)  # fmt: skip

#: The current value of a gauge: one number, or one for each value of its label.
Reading = Callable[[], float | Mapping[str, float]]


class Family:
    """One name, with its help and the name of its label."""

    kind: str

    def __init__(self, name: str, help_: str, label: str = "") -> None:
        self.name = name
        self.help = help_
        self.label = label

    def lines(self) -> Iterator[str]:
        """Yield the samples as text."""
        raise NotImplementedError

    def labels(self, value: str, more: str = "") -> str:
        """Return {label="value"} with *more* in it, "" if there is neither."""
        own = f'{self.label}="{_escaped(value)}"' if self.label else ""
        inside = ",".join(part for part in (own, more) if part)
        return f"{{{inside}}}" if inside else ""


class Counter(Family):
    """Counts events; its name ends with _total."""

    kind = "counter"

    def __init__(self, name: str, help_: str, label: str = "") -> None:
        super().__init__(name, help_, label)
        self._values: dict[str, int] = {}

    def count(self, value: str = "") -> None:
        """Count one event with the label *value*."""
        values = self._values
        if value not in values and len(values) >= _MOST_SERIES:
            value = _OTHER
        values[value] = values.get(value, 0) + 1

    def lines(self) -> Iterator[str]:
        for value, number in self._values.items():
            yield f"{self.name}{self.labels(value)} {number}"


class _Series:
    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum = 0.0


class Histogram(Family):
    """Measures durations; its name ends with _seconds."""

    kind = "histogram"

    def __init__(self, name: str, help_: str, label: str = "") -> None:
        super().__init__(name, help_, label)
        self._series: dict[str, _Series] = {}

    def observe(self, value: str, seconds: float) -> None:
        """Count one event with the label *value* and this duration."""
        series = self._series.get(value)
        if series is None:
            if len(self._series) >= _MOST_SERIES:
                value = _OTHER
            series = self._series.setdefault(value, _Series())
        series.counts[bisect_left(BUCKETS_S, seconds)] += 1
        series.sum += seconds

    def lines(self) -> Iterator[str]:
        for value, series in self._series.items():
            so_far = 0
            for bound, count in zip((*BUCKETS_S, math.inf), series.counts, strict=True):
                so_far += count
                below = f'le="{_number(bound)}"'
                yield f"{self.name}_bucket{self.labels(value, below)} {so_far}"
            yield f"{self.name}_sum{self.labels(value)} {_number(series.sum)}"
            yield f"{self.name}_count{self.labels(value)} {so_far}"


class Gauge(Family):
    """A current value, read when somebody requests the metrics."""

    kind = "gauge"

    def __init__(
        self, name: str, help_: str, read: Reading, label: str = "", *, most: int = _MOST_SERIES
    ) -> None:
        super().__init__(name, help_, label)
        self._read = read
        self._most = most

    def lines(self) -> Iterator[str]:
        found = self._read()
        values = found if isinstance(found, Mapping) else {"": found}
        for value, number in list(values.items())[: self._most]:
            yield f"{self.name}{self.labels(value)} {_number(number)}"


class Total(Gauge):
    """A counter whose value is kept elsewhere; its name ends with _total."""

    kind = "counter"


class Registry:
    """All families, in order."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def counter(self, name: str, help_: str, label: str = "") -> Counter:
        made = Counter(name, help_, label)
        self._families[name] = made
        return made

    def histogram(self, name: str, help_: str, label: str = "") -> Histogram:
        made = Histogram(name, help_, label)
        self._families[name] = made
        return made

    def gauge(
        self, name: str, help_: str, read: Reading, label: str = "", *, most: int = _MOST_SERIES
    ) -> None:
        """Add a gauge: *read* returns a number, or up to *most* numbers by values of *label*."""
        self._families[name] = Gauge(name, help_, read, label, most=most)

    def total(
        self, name: str, help_: str, read: Reading, label: str = "", *, most: int = _MOST_SERIES
    ) -> None:
        """Add a counter whose value *read* returns, like gauge()."""
        self._families[name] = Total(name, help_, read, label, most=most)

    def text(self, *, openmetrics: bool = False) -> str:
        """Return all, in Prometheus's text format 0.0.4, or in OpenMetrics 1.0."""
        lines = []
        for family in self._families.values():
            # In OpenMetrics a counter's family has no _total in its name.
            name = family.name.removesuffix("_total") if openmetrics else family.name
            lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
            lines += family.lines()
        if openmetrics:
            lines.append("# EOF")
        return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    if value == math.inf:
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
