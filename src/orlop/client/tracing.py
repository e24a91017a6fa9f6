"""The trace that a program is in: the spans of what the engine does for it are part of that."""

from __future__ import annotations

import sys


def traceparent() -> str:
    """Return OpenTelemetry's current span as W3C Trace Context writes it; "" where none is.

    Nothing is imported for it: who has a span has imported what makes spans.
    """
    current = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current is None:  # or another thread is about to import it
        return ""
    span = current().get_span_context()
    if not span.is_valid:
        return ""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
