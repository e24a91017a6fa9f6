"""One engine's telemetry: where it is told what happened, and for how long.

    times, begun = telemetry.recorder(), time.monotonic_ns()
    since = times.now()
    ...
    since = times.note("network", since)
    telemetry.done("start", container.id, times.steps, begin_ns=begun)

done() observes each step, the operation as a whole, adds both to the timeline where the
request asked for one, and hands them to the exporter of spans where one is configured.
Single figures are told directly:

    telemetry.starts.observe("network", 0.0012)  # seconds of one step of a start
    telemetry.operations.observe("exec", 0.004)  # seconds of a whole operation
    telemetry.exits.count("ok")
    telemetry.pools["spare_cgroups"] = lambda: Stock(ready=len(spares), most=4)
    telemetry.queues["starts"] = lambda: len(waiting)

Used from the event loop only. What a label can be is fixed by the code: never an id, a
name, or anything else that a client says.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from orlop.engine.telemetry.asked import asked
from orlop.engine.telemetry.metrics import Registry
from orlop.engine.telemetry.timelines import Timelines
from orlop.engine.telemetry.watchdog import Watchdog
from orlop.model.container import Container
from orlop.model.pool import Stock
from orlop.model.timeline import Recorder, Step

#: One start in so many has its process's own steps noted, though nobody asked for them.
_SAMPLED = 16
_STARTS = ("start", "spawn")  # of a container, and of a sandbox by a recipe
_CAPITAL = re.compile("(?=[A-Z])")


class Spans(Protocol):
    """Who exports what was done."""

    def take(self, operation: Step, steps: Sequence[Step], *, parent: str, subject: str) -> None:
        """Export a span with one for each step in it; returns at once."""


class Telemetry:
    """What happened, counted and timed."""

    def __init__(self) -> None:
        registry = self.registry = Registry()
        self.starts = registry.histogram(
            "orlop_start_step_seconds", "Duration of each step of a start.", "step"
        )
        self.operations = registry.histogram(
            "orlop_operation_seconds",
            "Duration of whole operations that succeeded.",
            "operation",
        )
        self.outcomes = registry.counter(
            "orlop_starts_total", "Starts of containers, by what became of them.", "outcome"
        )
        self.exits = registry.counter(
            "orlop_exits_total", "Ends of containers, by how they ended.", "outcome"
        )
        #: Callbacks by what they count; more can be put in at any time.
        self.pools: dict[str, Callable[[], Stock]] = {}
        self.queues: dict[str, Callable[[], float]] = {}
        self._tell_pools()
        registry.gauge(
            "orlop_queue_length", "Things that wait.", lambda: _read(self.queues), "queue"
        )
        self.timelines = Timelines()
        self.spans: Spans | None = None
        self._begun = 0

    def watched(self, watchdog: Watchdog) -> None:
        """Tell what *watchdog* has seen, too."""
        self.registry.total(
            "orlop_loop_stalls_total",
            "Callbacks that held up the event loop for over 100 ms, by who was at work.",
            lambda: dict(watchdog.stalls),
            "place",
        )

    def _tell_pools(self) -> None:
        registry = self.registry

        def each(of: Callable[[Stock], int]) -> Callable[[], Mapping[str, float]]:
            return lambda: {name: of(stock()) for name, stock in self.pools.items()}

        registry.gauge(
            "orlop_pool_ready", "Things made ahead and ready.", each(lambda s: s.ready), "pool"
        )
        registry.gauge(
            "orlop_pool_bound", "How many a pool keeps at most.", each(lambda s: s.most), "pool"
        )
        registry.total(
            "orlop_pool_hits_total", "What was taken of a pool.", each(lambda s: s.hits), "pool"
        )
        registry.total(
            "orlop_pool_misses_total",
            "What was wanted of a pool that had none.",
            each(lambda s: s.misses),
            "pool",
        )

    def recorder(self) -> Recorder:
        """Return what takes down the engine's own steps, which it always does: they are few."""
        return Recorder("engine")

    def is_detailed(self) -> bool:
        """Whether the steps of shim and child are to be noted too, for the start that begins.

        Where its request asked for it or spans are exported; else now and then.
        """
        self._begun += 1
        wanted = asked.get().timeline or self.spans is not None
        return wanted or self._begun % _SAMPLED == 1

    def done(
        self, operation: str, container_id: str, steps: Sequence[Step], *, begin_ns: int
    ) -> None:
        """Take in an operation that has succeeded now, and the steps that it was made of."""
        now_ns = time.monotonic_ns()
        whole = Step(operation, "engine", begin_ns, now_ns)
        self.operations.observe(operation, whole.seconds)
        if operation in _STARTS:
            self.outcomes.count("ok")
            for step in steps:
                verb = step.name.partition(" ")[0]  # of "mount /data": paths are the client's
                self.starts.observe(verb, step.seconds)
        wanted = asked.get()
        if wanted.timeline:
            self.timelines.keep(container_id)
        self.timelines.add(container_id, (whole, *steps))
        if self.spans is not None:
            self.spans.take(whole, steps, parent=wanted.traceparent, subject=container_id)

    def failed(self, container_id: str, error: BaseException, steps: Sequence[Step]) -> None:
        """Take in a start that has failed, after those *steps*."""
        words = _CAPITAL.sub("_", type(error).__name__.removesuffix("Error")).lower()
        self.outcomes.count(words.removeprefix("_"))
        self.timelines.add(container_id, steps)

    def ended(self, container: Container, exit_: Mapping[str, Any]) -> None:
        """Take in that a container's program has ended, as the shim tells it."""
        now_ns = time.monotonic_ns()
        boot_ns = time.time_ns() - now_ns
        self.exits.count(_ending(exit_))
        end_ns = min(exit_["time_ns"] - boot_ns, now_ns)
        begin_ns = min(container.started_ns - boot_ns, end_ns)
        program = Step("program", "container", begin_ns, end_ns)
        told = Step("record_exit", "engine", end_ns, now_ns)
        self.timelines.add(container.id, (program, told))


def _ending(exit_: Mapping[str, Any]) -> str:
    if exit_.get("oom"):
        return "out_of_memory"
    if exit_["signal"]:
        return "signalled"
    return "failed" if exit_["status"] else "ok"


def _read(sources: dict[str, Callable[[], float]]) -> dict[str, float]:
    return {name: read() for name, read in sources.items()}
