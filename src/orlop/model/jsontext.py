"""JSON without the json module, whose regular expressions take as long as starting Python.

CPython's own C scanner and string encoder do the work; if they are missing, the json module
does. Figures: docs/decisions/cli-start.md.
"""

from __future__ import annotations

from orlop.errors import CorruptError

TYPE_CHECKING = False  # importing typing takes 6 ms, so only the type checker does
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    _Scan = Callable[[str, int], tuple[Any, int]]
    _Quote = Callable[[str], str]


class _ScanSettings:
    """The settings that the C scanner reads: the defaults of json.JSONDecoder."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float  # "NaN", "Infinity", "-Infinity" are spellings that float() knows
    memo: dict[str, str] = {}  # noqa: RUF012 (the scanner wants the attribute; it never fills it)


def _tools() -> tuple[_Scan, _Quote]:
    try:
        from _json import encode_basestring, make_scanner
    except ImportError:
        import json

        decoder: Any = json.JSONDecoder(strict=False)
        return decoder.scan_once, json.encoder.encode_basestring
    return make_scanner(_ScanSettings()), encode_basestring  # type: ignore[arg-type]  # duck-typed


_scan, _quote = _tools()


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON *text*; CorruptError if it is not JSON."""
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        stripped = decoded.strip(" \t\r\n")
        value, end = _scan(stripped, 0)
    except (StopIteration, ValueError, RecursionError) as error:
        raise CorruptError(f"not JSON: {text[:80]!r}") from error
    if end != len(stripped):
        raise CorruptError(f"text after the JSON: {stripped[end : end + 80]!r}")
    return value


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Return *value* as JSON, on one line unless *indent* is given."""
    if indent is None:
        return _compact(value)
    return _indented(value, " " * indent, "\n")


def _scalar(value: Any) -> str | None:
    if isinstance(value, str):
        return _quote(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return None


def _compact(value: Any) -> str:
    scalar = _scalar(value)
    if scalar is not None:
        return scalar
    if isinstance(value, dict):
        return (
            "{" + ",".join(f"{_quote(key)}:{_compact(item)}" for key, item in value.items()) + "}"
        )
    return "[" + ",".join(_compact(item) for item in value) + "]"


def _indented(value: Any, step: str, newline: str) -> str:
    scalar = _scalar(value)
    if scalar is not None:
        return scalar
    deeper = newline + step
    if isinstance(value, dict):
        if not value:
            return "{}"
        rows = (f"{_quote(key)}: {_indented(item, step, deeper)}" for key, item in value.items())
        return "{" + deeper + ("," + deeper).join(rows) + newline + "}"
    if not value:
        return "[]"
    items = (_indented(item, step, deeper) for item in value)
    return "[" + deeper + ("," + deeper).join(items) + newline + "]"
