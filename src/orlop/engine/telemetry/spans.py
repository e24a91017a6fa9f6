"""OpenTelemetry: a span for each operation and each of its steps, sent to a collector.

    engine's loop                 this thread                        OpenTelemetry's own
      | take() -- bounded queue -->| makes spans of finished steps    |
      |                            | -------- bounded queue --------->| OTLP, http/protobuf

Nothing waits for it: spans that do not fit a queue, or cannot be sent, are dropped, and the log
says so once. The thread imports the packages, of the extra `otel`. They are configured by the
environment: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and so on.
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
_LONGEST_PARENT = 512  # characters; version 00 has 55
_LAST_S = 2.0  # for sending the rest when the engine ends
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
    """Sends spans, in its own threads, from start() to close()."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[_Done | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, operation: Step, steps: Sequence[Step], *, parent: str, subject: str) -> None:
        """Queue it, if there is room."""
        known = parent if len(parent) <= _LONGEST_PARENT else ""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(_Done(operation, steps, known, subject))

    @property
    def waiting(self) -> int:
        return self._waiting.qsize()

    def close(self) -> None:
        """Send the rest, if that is possible soon."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(_LAST_S)

    def _run(self) -> None:
        try:
            provider = _provider()
        except Exception as error:  # the packages are missing, or refuse their configuration
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
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it logs each failure; we, the first
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "orlop"}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    exporter = OTLPSpanExporter()
    _tell_first_failure(exporter)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _tell_first_failure(exporter: Any) -> None:
    """Log once that nothing arrives, and again only after something has arrived."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    send, told = exporter.export, False

    def export(spans: Sequence[Any]) -> SpanExportResult:
        nonlocal told
        why = "the collector does not take them"
        try:
            result: SpanExportResult = send(spans)
        except Exception as error:  # of any kind: the next one may arrive
            result, why = SpanExportResult.FAILURE, str(error)
        if result is SpanExportResult.SUCCESS:
            told = False
        elif not told:
            log.warning("spans are lost", extra={"why": why[:200]})
            told = True
        return result

    exporter.export = export


def _record(provider: "TracerProvider", done: _Done) -> None:
    """Make spans from completed steps, nested like the steps."""
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
