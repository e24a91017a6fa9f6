"""OpenTelemetry: a span for each operation, with one for each of its steps, sent to a collector.

    engine's loop                 this thread                        OpenTelemetry's own
      | take() -- bounded queue -->| makes spans of finished steps    |
      |                            | -------- bounded queue --------->| OTLP, http/protobuf

Nothing waits for it: what does not fit a queue is dropped, what cannot be sent is too, and
the log says so once. The packages, of the extra `otel`, are imported by the thread. The
environment configures them: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and so on.
"""

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from orlop.model.timeline import Step, nested

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_MOST_WAITING = 1000
_LONGEST_PARENT = 512  # characters, of which version 00 has 55
_LAST_S = 2.0  # for what is left when the engine ends
_PROTOCOLS = ("", "http/protobuf")


class _Done(NamedTuple):
    operation: Step
    steps: Sequence[Step]
    parent: str
    subject: str


def is_configured(environment: Mapping[str, str]) -> bool:
    """Whether spans are to be exported."""
    wanted = environment.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
    return wanted and any(environment.get(name) for name in _ENDPOINTS)


class SpanExport:
    """Sends spans, in threads of its own, from start() to close()."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[_Done | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, operation: Step, steps: Sequence[Step], *, parent: str, subject: str) -> None:
        """Have it sent, some time, if there is room."""
        known = parent if len(parent) <= _LONGEST_PARENT else ""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(_Done(operation, steps, known, subject))

    @property
    def waiting(self) -> int:
        return self._waiting.qsize()

    def close(self) -> None:
        """Send what is left, if that can be done soon."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(_LAST_S)

    def _run(self) -> None:
        try:
            provider = _provider()
        except Exception as error:  # of packages that are not here, or refuse their configuration
            log.warning("spans cannot be exported", extra={"why": str(error)})
            provider = None
        while (done := self._waiting.get()) is not None:
            if provider is not None:
                _record(provider, done)
        if provider is not None:
            provider.force_flush(int(_LAST_S * 1000))


def _provider() -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    if protocol not in _PROTOCOLS:
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol[:40]!r}, not http/protobuf")
    for name in ("opentelemetry", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they tell each failure; we, the first
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "orlop"}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    exporter = OTLPSpanExporter()
    _tell_first_failure(exporter)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _tell_first_failure(exporter: Any) -> None:
    """Have the log say once that nothing arrives, and again only after something has."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    send, told = exporter.export, False

    def export(spans: Sequence[Any]) -> SpanExportResult:
        nonlocal told
        why = "the collector does not take them"
        try:
            result: SpanExportResult = send(spans)
        except Exception as error:  # whatever it is, the next may arrive
            result, why = SpanExportResult.FAILURE, str(error)
        if result is SpanExportResult.SUCCESS:
            told = False
        elif not told:
            log.warning("spans are lost", extra={"why": why[:200]})
            told = True
        return result

    exporter.export = export


def _record(provider: "TracerProvider", done: _Done) -> None:
    """Make spans of steps that are over, each in the one that it is part of."""
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    tracer = provider.get_tracer("orlop")
    boot_ns = time.time_ns() - time.monotonic_ns()

    def record(step: Step, name: str, context: "Context") -> "Context":
        span = tracer.start_span(
            name,
            context=context,
            start_time=step.begin_ns + boot_ns,
            attributes={"container.id": done.subject, "orlop.room": step.room},
        )
        span.end(end_time=step.end_ns + boot_ns)
        return set_span_in_context(span)

    request = TraceContextTextMapPropagator().extract({"traceparent": done.parent})
    whole = record(done.operation, f"orlop {done.operation.name}", request)
    inside: list[Context] = []
    for step, _, outer in nested(done.steps):
        inside.append(record(step, step.name, inside[outer] if outer >= 0 else whole))
