"""What Prometheus reads, as its own parsers read it."""

import math
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from orlop.engine.telemetry.metrics import BUCKETS_S, Registry
from orlop.engine.telemetry.telemetry import Telemetry
from orlop.model.timeline import Step

Parser = Callable[[str], Iterable[Metric]]


def filled() -> Registry:
    registry = Registry()
    steps = registry.histogram("orlop_step_seconds", "Of steps.", "step")
    for seconds in (0.00002, 0.003, 0.003, 99.0):
        steps.observe('a "step"\\\n', seconds)
    ends = registry.counter("orlop_ends_total", "Of ends.", "outcome")
    ends.count("ok")
    ends.count("ok")
    registry.gauge("orlop_pool_ready", "Ready.", lambda: {"spares": 3, "others": 0}, "pool")
    registry.gauge("orlop_load", "Now.", lambda: 0.25)
    return registry


@pytest.mark.parametrize("is_open", [False, True], ids=["plain", "openmetrics"])
def test_prometheus_reads_what_was_told(*, is_open: bool) -> None:
    parse: Parser = openmetrics.text_string_to_metric_families if is_open else plain
    families = {family.name: family for family in parse(filled().text(openmetrics=is_open))}
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    name = 'a "step"\\\n'
    assert samples["orlop_ends_total", "ok"] == 2
    assert samples["orlop_pool_ready", "spares"] == 3
    assert samples["orlop_load",] == 0.25
    assert samples["orlop_step_seconds_count", name] == 4
    assert samples["orlop_step_seconds_sum", name] == pytest.approx(99.00602)
    bounds = {
        float(sample.labels["le"]): sample.value
        for sample in families["orlop_step_seconds"].samples
        if "le" in sample.labels
    }
    assert list(bounds) == [*BUCKETS_S, math.inf]
    assert (bounds[0.00001], bounds[0.00005], bounds[0.0025], bounds[0.005]) == (0, 1, 1, 3)
    assert (bounds[10.0], bounds[math.inf]) == (3, 4)


def test_the_values_of_a_label_are_bounded() -> None:
    registry = Registry()
    ends = registry.counter("orlop_ends_total", "Of ends.", "outcome")
    steps = registry.histogram("orlop_step_seconds", "Of steps.", "step")
    for number in range(1000):
        ends.count(str(number))
        steps.observe(str(number), 0.001)
    families = {family.name: family.samples for family in plain(registry.text())}
    assert len(families["orlop_ends"]) <= 101
    assert sum(sample.value for sample in families["orlop_ends"]) == 1000
    counts = [s for s in families["orlop_step_seconds"] if s.name.endswith("_count")]
    assert len(counts) <= 101
    assert sum(sample.value for sample in counts) == 1000


def test_what_a_client_names_is_in_no_label() -> None:
    telemetry = Telemetry()
    steps = [Step("mount /secret", "child", 0, 10), Step("mount /other", "child", 10, 20)]
    telemetry.done("spawn", "0123", steps, begin_ns=0)
    text = telemetry.registry.text()
    assert 'orlop_start_step_seconds_count{step="mount"} 2' in text
    assert "secret" not in text
    assert "0123" not in text
