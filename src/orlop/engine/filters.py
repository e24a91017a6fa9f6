"""Docker's filters, as far as several listings share them."""

from collections.abc import Iterable, Mapping

from orlop.engine.requests import Filters
from orlop.errors import InvalidArgumentError

_TRUE = frozenset({"true", "1", "t"})
_FALSE = frozenset({"false", "0", "f"})


def refuse_unknown(filters: Filters, known: Iterable[str]) -> None:
    """Raise InvalidArgumentError "invalid filter 'x'" for a name that is not *known*."""
    for name in filters:
        if name not in known:
            raise InvalidArgumentError(f"invalid filter '{name[:100]}'")


def truth(filters: Filters, name: str, *, default: bool) -> bool:
    """Return the truth value of a filter; InvalidArgumentError where it is none."""
    values = filters.get(name)
    if not values:
        return default
    word = values[0].lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidArgumentError(f"invalid filter '{name}={values[0][:100]}'")


def label_matches(labels: Mapping[str, str], filters: Filters) -> bool:
    """Whether all of "label" fit, KEY or KEY=VALUE, and none of "label!"."""
    wanted = filters.get("label", ())
    unwanted = filters.get("label!", ())
    return all(_has(labels, text) for text in wanted) and not any(
        _has(labels, text) for text in unwanted
    )


def _has(labels: Mapping[str, str], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)
