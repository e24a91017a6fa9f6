"""From a LogConfig to the engine's log options."""

from collections.abc import Mapping

from orlop.api.docker import wire
from orlop.api.docker.parse_sizes import parse_size
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.container import LogOptions

_ATTRIBUTES = frozenset(("tag", "labels", "labels-regex", "env", "env-regex"))
_FILES = frozenset(("max-size", "max-file", "compress"))
_EVERY = frozenset(("mode", "max-buffer-size"))
#: What each driver takes, beside what every driver does.
DRIVERS: Mapping[str, frozenset[str]] = {
    "json-file": _FILES | _ATTRIBUTES,
    "local": _FILES,
}
_MODES = ("", "blocking", "non-blocking")
_MOST_FILES = 1000
_TRUTHS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def parse_log(body: wire.LogConfig | None) -> LogOptions:
    """Return where the output goes; json-file with rotation when nothing is said."""
    driver = (body.type if body else "") or "json-file"
    given = (body.config if body else None) or {}
    if driver == "none":
        return LogOptions(driver="none")
    if driver not in DRIVERS:
        names = ", ".join((*DRIVERS, "none"))
        raise UnsupportedError(f"no log driver {driver!r}", hint=f"this build has: {names}")
    _check_names(driver, given)
    _check_mode(given)
    size = parse_size(given.get("max-size", ""), "log option max-size")
    options = LogOptions(
        driver=driver,
        max_size_bytes=size or LogOptions().max_size_bytes,
        max_files=_files(given.get("max-file", ""), "max-file"),
        compress=_truth(given, "compress", default=driver == "local"),
        given=given,
    )
    if options.compress and options.max_files < 2 and "compress" in given:
        raise InvalidArgumentError("log option compress needs max-file of at least 2")
    return options


def _check_names(driver: str, given: Mapping[str, str]) -> None:
    unknown = given.keys() - DRIVERS[driver] - _EVERY
    if unknown:
        raise InvalidArgumentError(
            f"unknown log option {min(unknown)[:200]!r} for {driver}",
            hint="it has: " + ", ".join(sorted(DRIVERS[driver] | _EVERY)),
        )


def _check_mode(given: Mapping[str, str]) -> None:
    mode = given.get("mode", "")
    if mode not in _MODES:
        raise InvalidArgumentError(
            f"log option mode cannot be {mode[:200]!r}", hint="blocking or non-blocking"
        )
    if "max-buffer-size" in given:
        if mode != "non-blocking":
            raise InvalidArgumentError("log option max-buffer-size needs mode=non-blocking")
        parse_size(given["max-buffer-size"], "log option max-buffer-size")


def _files(text: str, name: str) -> int:
    if not text:
        return LogOptions().max_files
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:9]) <= _MOST_FILES):
        raise InvalidArgumentError(
            f"log option {name} must be at least 1, and at most {_MOST_FILES}, not {text[:50]!r}"
        )
    return int(text)


def _truth(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = given.get(name, "")
    if text and text not in _TRUTHS:
        raise InvalidArgumentError(f"log option {name} must be true or false, not {text[:50]!r}")
    return _TRUTHS.get(text, default)
