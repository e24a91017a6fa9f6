"""Names and selections that pods and containers have in common."""

import hashlib
from collections.abc import Mapping
from typing import TypeVar

from orlop.errors import InvalidArgumentError

T = TypeVar("T")

_LONGEST_NAME = 255  # of a container
_HASH = 16


def name_of(*parts: object) -> str:
    """Return the engine's name for a pod or container: "k8s_NAME_POD_NAMESPACE_UID_ATTEMPT"."""
    name = "_".join(("k8s", *map(str, parts)))
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH]
    return f"{name[: _LONGEST_NAME - _HASH - 1]}_{digest}"


def selects(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether *labels* have all that are *wanted*, with their values."""
    return all(labels.get(key) == value for key, value in wanted.items())


def known(table: Mapping[int, T], number: int, what: str) -> T:
    """Return what a number of an enumeration means; InvalidArgumentError if it means nothing."""
    if number not in table:
        raise InvalidArgumentError(f"there is no {what} {number}")
    return table[number]
