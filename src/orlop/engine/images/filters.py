"""Docker's filters on images."""

import fnmatch
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from orlop.engine.answers import ImageRecord
from orlop.engine.filters import label_matches, refuse_unknown, truth
from orlop.engine.images.catalog import Catalog
from orlop.engine.requests import Filters
from orlop.engine.when import parse_moment
from orlop.model.reference import parse_reference

Test = Callable[[ImageRecord], bool]


def matcher(filters: Filters, catalog: Catalog) -> Test:
    """Return a test for *filters*; InvalidArgumentError for an unknown filter."""
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
    wanted = truth({"dangling": values}, "dangling", default=False)
    return lambda image: (not image.tags) is wanted


def _before(values: Sequence[str], catalog: Catalog) -> Test:
    limit_ns = min(catalog.resolve(value).created_ns for value in values)
    return lambda image: image.created_ns < limit_ns


def _since(values: Sequence[str], catalog: Catalog) -> Test:
    limit_ns = max(catalog.resolve(value).created_ns for value in values)
    return lambda image: image.created_ns > limit_ns


def _until(values: Sequence[str], catalog: Catalog) -> Test:
    del catalog
    limit_ns = min(parse_moment(value) for value in values)
    return lambda image: image.created_ns < limit_ns


def _reference(values: Sequence[str], catalog: Catalog) -> Test:
    del catalog
    return lambda image: any(is_like(tag, value) for tag in image.tags for value in values)


def with_named(image: ImageRecord, filters: Filters) -> ImageRecord:
    """Return *image* with those of its names that match a filter on "reference"."""
    patterns = filters.get("reference", ())
    if not patterns:
        return image
    return replace(
        image,
        tags=tuple(t for t in image.tags if any(is_like(t, p) for p in patterns)),
        digests=tuple(d for d in image.digests if any(is_like(d, p) for p in patterns)),
    )


def is_like(tag: str, pattern: str) -> bool:
    """Whether *pattern* matches *tag* as users write it, with or without its suffix."""
    reference = parse_reference(tag)
    return any(_matches(name, pattern) for name in (reference.familiar, reference.familiar_name))


def _matches(name: str, pattern: str) -> bool:
    """Match part by part, because Docker's "*" and "?" never match a slash; "[^…]" negates."""
    names, patterns = name.split("/"), pattern.replace("[^", "[!").split("/")
    return len(names) == len(patterns) and all(map(fnmatch.fnmatchcase, names, patterns))


_FILTERS: dict[str, Callable[[Sequence[str], Catalog], Test]] = {
    "dangling": _dangling,
    "before": _before,
    "since": _since,
    "until": _until,
    "reference": _reference,
}
