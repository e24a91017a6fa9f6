"""The names that CNI allows; they become file names, arguments and environment variables.

Lengths and characters are from the specification, sections 1 and 2, and from IFNAMSIZ.
"""

from __future__ import annotations

from orlop.errors import InvalidArgumentError

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _LETTERS | frozenset("_.-")
_MOST_IN_A_NAME = 100  # two of them and an interface make one file name, of at most 255
_MOST_IN_AN_INTERFACE = 15
#: Not allowed in a file name here: a plugin's type selects a program (CVE-2021-20206).
_NOT_IN_A_TYPE = frozenset("/\\\0")


def check_network(name: str) -> None:
    """Refuse a network name that CNI does not allow."""
    _check(name, "network name")


def check_container(container: str) -> None:
    """Refuse a container id that CNI does not allow."""
    _check(container, "container id")


def _check(text: str, what: str) -> None:
    if not text:
        raise InvalidArgumentError(f"{what} is empty")
    if text[0] not in _LETTERS or not _REST.issuperset(text):
        raise InvalidArgumentError(
            f"{what} {text[:_MOST_IN_A_NAME]!r} is not one of CNI's",
            hint="a letter or digit, then letters, digits, '_', '.', '-'",
        )
    if len(text) > _MOST_IN_A_NAME:
        raise InvalidArgumentError(
            f"{what} {text[:20]!r}… has more than {_MOST_IN_A_NAME} characters"
        )


def check_interface(name: str) -> None:
    """Refuse a name that is not valid for a network interface."""
    if not name:
        raise InvalidArgumentError("interface name is empty")
    if len(name.encode(errors="surrogateescape")) > _MOST_IN_AN_INTERFACE:
        raise InvalidArgumentError(
            f"interface name {name[:20]!r} has more than {_MOST_IN_AN_INTERFACE} characters"
        )
    if name in (".", "..") or any(c in "/:\0" or c.isspace() for c in name):
        raise InvalidArgumentError(f"interface name {name!r} is not one that Linux takes")


def check_type(name: object, where: str) -> None:
    """Refuse a plugin's name that is not a plain file name."""
    if not isinstance(name, str) or not name:
        raise InvalidArgumentError(f"{where} names no plugin")
    if name in (".", "..") or not _NOT_IN_A_TYPE.isdisjoint(name):
        raise InvalidArgumentError(
            f"{where} is {name!r}", hint="a plugin is named by its file's name, without a path"
        )
