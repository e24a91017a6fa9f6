"""Values of log options."""

from collections.abc import Mapping

from orlop.errors import InvalidArgumentError
from orlop.model.durations import parse_duration_ns
from orlop.model.sizes import parse_limit

_TRUTHS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def truth(options: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """Return the option's truth, in Go's spelling."""
    text = options.get(name, "")
    if text and text not in _TRUTHS:
        raise InvalidArgumentError(f"log option {name} must be true or false, not {text[:50]!r}")
    return _TRUTHS.get(text, default)


def size(options: Mapping[str, str], name: str, *, default: int) -> int:
    """Return the option's bytes: -1 for no limit, as Docker's documentation has it."""
    text = options.get(name, "")
    return -1 if text == "-1" else parse_limit(text, f"log option {name}") or default


def number(options: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    """Return the option's number, at least 1."""
    text = options.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:10]) <= most):
        raise InvalidArgumentError(
            f"log option {name} must be at least 1, and at most {most}, not {text[:50]!r}"
        )
    return int(text)


def seconds(options: Mapping[str, str], name: str, *, default: float) -> float:
    """Return the option's duration."""
    text = options.get(name, "")
    try:
        return parse_duration_ns(text) / 1e9 if text else default
    except ValueError as error:
        raise InvalidArgumentError(f"log option {name}: {error}, not {text[:50]!r}") from None
