"""The versions of CNI, and what each of them added."""

from __future__ import annotations

from orlop.errors import InvalidArgumentError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: The supported versions, oldest first. Before 0.3.0 results had another format.
SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = SUPPORTED[-1]


def numbers(version: str) -> tuple[int, ...]:
    """Return *version* as numbers, for comparisons."""
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise InvalidArgumentError(f"{version[:40]!r} is not a version of CNI")
    return tuple(map(int, parts))


def newest(wanted: Iterable[str], what: str) -> str:
    """Return the newest version that both *what* and we support."""
    given = list(wanted)
    both = [version for version in SUPPORTED if version in given]
    if not both:
        raise UnsupportedError(
            f"{what} is of CNI version {', '.join(given) or '0.1.0'}",
            hint=f"this build has {', '.join(SUPPORTED)}",
        )
    return both[-1]


def has_check(version: str) -> bool:
    """Whether there is CHECK, and DEL gets ADD's result."""
    return numbers(version) >= (0, 4, 0)


def has_collection(version: str) -> bool:
    """Whether there are GC and STATUS, and the newer fields of a result."""
    return numbers(version) >= (1, 1, 0)


def has_families(version: str) -> bool:
    """Whether an address in a result has its IP version."""
    return numbers(version) < (1, 0, 0)
