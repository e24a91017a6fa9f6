"""containerd's namespaces: names that keep one client's objects apart from another's."""

import re

import msgspec

from orlop.errors import InvalidArgumentError

_MOST_CHARACTERS = 76
_MOST_LABEL = 4096  # characters of a label's key and value together
_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*")


class Namespace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A namespace as it is stored."""

    name: str
    labels: dict[str, str] = {}


def check_identifier(what: str, text: str) -> str:
    """Return *text*; InvalidArgumentError, which names *what*, if containerd allows no such id."""
    if len(text) > _MOST_CHARACTERS:
        raise InvalidArgumentError(f"the {what} has more than {_MOST_CHARACTERS} characters")
    if not _IDENTIFIER.fullmatch(text):
        raise InvalidArgumentError(
            f"invalid {what} {text!r}", hint="letters and digits, with single . _ or - between them"
        )
    return text


def check_labels(labels: dict[str, str]) -> dict[str, str]:
    """Return *labels*; InvalidArgumentError if one is too long."""
    for key, value in labels.items():
        if len(key) + len(value) > _MOST_LABEL:
            raise InvalidArgumentError(
                f"the label {key[:40]!r} with its value has more than {_MOST_LABEL} characters"
            )
    return labels
