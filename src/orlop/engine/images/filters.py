"""Docker's filters on images."""

import fnmatch
import re
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from orlop.engine.answers import ImageRecord
from orlop.engine.filters import label_matches, refuse_unknown
from orlop.engine.images.catalog import Catalog, parse_time
from orlop.engine.requests import Filters
from orlop.errors import InvalidArgumentError
from orlop.model.reference import parse_reference

Test = Callable[[ImageRecord], bool]
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d)")
_TRUE = ("1", "true", "True")


def matcher(filters: Filters, catalog: Catalog) -> Test:
    """Return the test that *filters* mean; InvalidArgumentError for one that is unknown."""
    refuse_unknown(filters, (*_FILTERS, "label", "label!"))
    tests = [
        make(values, catalog) for name, make in _FILTERS.items() if (values := filters.get(name))
    ]

    def matches(image: ImageRecord) -> bool:
        labels = image.config.config.labels
        return label_matches(labels, filters) and all(test(image) for test in tests)

    return matches


def _dangling(values: Sequence[str], catalog: Catalog) -> Test:
    del catalog
    wanted = values[-1] in _TRUE
    return lambda image: (not image.tags) is wanted


def _before(values: Sequence[str], catalog: Catalog) -> Test:
    limit_ns = min(catalog.resolve(value).created_ns for value in values)
    return lambda image: image.created_ns < limit_ns


def _since(values: Sequence[str], catalog: Catalog) -> Test:
    limit_ns = max(catalog.resolve(value).created_ns for value in values)
    return lambda image: image.created_ns > limit_ns


def _until(values: Sequence[str], catalog: Catalog) -> Test:
    del catalog
    limit_ns = min(moment_ns(value) for value in values)
    return lambda image: image.created_ns < limit_ns


def _reference(values: Sequence[str], catalog: Catalog) -> Test:
    del catalog
    return lambda image: any(_is_like(tag, value) for tag in image.tags for value in values)


def with_named(image: ImageRecord, filters: Filters) -> ImageRecord:
    """Return *image* with those of its names that a filter on "reference" is about."""
    patterns = filters.get("reference", ())
    if not patterns:
        return image
    return replace(
        image,
        tags=tuple(t for t in image.tags if any(_is_like(t, p) for p in patterns)),
        digests=tuple(d for d in image.digests if any(_is_like(d, p) for p in patterns)),
    )


def _is_like(tag: str, pattern: str) -> bool:
    name = parse_reference(tag).familiar_name
    return fnmatch.fnmatchcase(tag, pattern) or fnmatch.fnmatchcase(name, pattern)


def moment_ns(text: str) -> int:
    """Return a moment given as a time, as seconds since the epoch, or as so long ago ("24h")."""
    if text.replace(".", "", 1).isdigit():
        return int(float(text) * 1e9)
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        ago_s = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
        return time.time_ns() - int(ago_s * 1e9)
    moment = parse_time(text)
    if not moment:
        raise InvalidArgumentError(
            f"invalid time {text[:100]!r}", hint="expected 2026-01-31T12:00:00Z, or 24h"
        )
    return moment


_FILTERS: dict[str, Callable[[Sequence[str], Catalog], Test]] = {
    "dangling": _dangling,
    "before": _before,
    "since": _since,
    "until": _until,
    "reference": _reference,
}
