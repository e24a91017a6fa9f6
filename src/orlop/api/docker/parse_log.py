"""Parse a LogConfig to the engine's log options."""

from collections.abc import Mapping

from orlop.api.docker import wire
from orlop.errors import InvalidArgumentError
from orlop.logdrivers import drivers, options
from orlop.model.container import LogOptions
from orlop.model.sizes import parse_limit

_ATTRIBUTES = frozenset(("tag", "labels", "labels-regex", "env", "env-regex"))
_FILES = frozenset(("max-size", "max-file", "compress"))
_CACHE = frozenset(("cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"))
_EVERY = frozenset(("mode", "max-buffer-size"))
#: The options of each driver, besides those of all drivers.
DRIVERS: Mapping[str, frozenset[str]] = {
    "json-file": _FILES | _ATTRIBUTES,
    "local": _FILES,
    **{name: driver.OPTIONS | _ATTRIBUTES | _CACHE for name, driver in drivers.DRIVERS.items()},
}
_MODES = ("", "blocking", "non-blocking")
_MOST_FILES = 1000


def parse_log(body: wire.LogConfig | None) -> LogOptions:
    """Return where the output goes; the default is json-file with rotation."""
    driver = (body.type if body else "") or "json-file"
    given = (body.config if body else None) or {}
    if driver == "none":
        return LogOptions(driver="none")
    if driver not in DRIVERS:
        what = driver[:200]
        raise InvalidArgumentError(  # as Docker: clients compare it
            f'error looking up logging plugin {what}: plugin "{what}" not found'
        )
    _check_names(driver, given)
    _check_mode(given)
    cache = "cache-" if driver in drivers.DRIVERS else ""
    default = LogOptions()
    parsed = LogOptions(
        driver=driver,
        max_size_bytes=options.size(given, f"{cache}max-size", default=default.max_size_bytes),
        max_files=options.number(
            given, f"{cache}max-file", default=default.max_files, most=_MOST_FILES
        ),
        compress=options.truth(given, f"{cache}compress", default=driver != "json-file"),
        kept=not options.truth(given, "cache-disabled"),
        given=given,
    )
    if parsed.compress and parsed.max_files < 2 and f"{cache}compress" in given:
        raise InvalidArgumentError(
            f"log option {cache}compress needs {cache}max-file of at least 2"
        )
    return parsed


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
        parse_limit(given["max-buffer-size"], "log option max-buffer-size")
