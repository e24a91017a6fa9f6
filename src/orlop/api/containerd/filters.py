"""containerd's filters: text such as `name~=busybox,labels."a.b"==c`.

Selectors, separated by commas, all have to match. A selector is a path of fields, and perhaps
an operator with a value: == equal, != not equal, ~= contains a match of a regular expression.
Without an operator the field must have a value. Of several filters one has to match.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from orlop.errors import InvalidArgumentError, UnsupportedError

_MOST_CHARACTERS = 4096  # of a filter
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_FIELD = re.compile(rf"[A-Za-z_][A-Za-z0-9_]*|{_QUOTED}")
_COMMA = re.compile(r",\s*")
_OPERATOR = re.compile(r"==|!=|~=")
_VALUE = re.compile(rf"{_QUOTED}|/(?:[^/\\]|\\.)*/|\|(?:[^|\\]|\\.)*\||[^\s,\"][^\s,]*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
#: A search takes time that grows with the length to the power of the number of repetitions.
_MOST_REPETITIONS = 1
_REPETITION = re.compile(r"(?<!\\)[*+?{]")
_GROUP = re.compile(r"(?<!\\)\(")

Fields = Mapping[str, object]  # by name: text, lists of text, or mappings to text


class Selector(NamedTuple):
    """One condition on the field at *path*."""

    path: tuple[str, ...]
    operator: str
    value: str

    def holds(self, fields: Fields) -> bool:
        """Whether the condition is true of *fields*."""
        found = _found(fields, self.path)
        if self.operator == "==":
            return found is not None and found == self.value
        if self.operator == "!=":
            return found != self.value
        if self.operator == "~=":
            return found is not None and bool(re.search(self.value, found))
        return bool(found)


def matcher(filters: Sequence[str]) -> Callable[[Fields], bool]:
    """Return the test that *filters* mean; InvalidArgumentError if they cannot be read."""
    alternatives = [[*_selectors(text)] for text in filters]

    def matches(fields: Fields) -> bool:
        return not alternatives or any(
            all(one.holds(fields) for one in selectors) for selectors in alternatives
        )

    return matches


def _selectors(text: str) -> Iterator[Selector]:
    if len(text) > _MOST_CHARACTERS:
        raise InvalidArgumentError(f"a filter has more than {_MOST_CHARACTERS} characters")
    position = 0
    while text:
        path = []
        while True:
            field, position = _next(_FIELD, text, position, "the name of a field")
            path.append(_unquoted(field))
            if text[position : position + 1] != ".":
                break
            position += 1
        operator = value = ""
        if position < len(text) and text[position] != ",":
            operator, position = _next(_OPERATOR, text, position, "==, != or ~=")
            value, position = _next(_VALUE, text, position, "a value")
        yield Selector(tuple(path), operator, _operand(operator, value))
        if position == len(text):
            return
        _, position = _next(_COMMA, text, position, "a comma")


def _next(expected: re.Pattern[str], text: str, position: int, what: str) -> tuple[str, int]:
    found = expected.match(text, position)
    if found is None:
        raise InvalidArgumentError(
            f"invalid filter {text[:200]!r}: {what} is missing at {position}"
        )
    return found[0], found.end()


def _operand(operator: str, text: str) -> str:
    if operator != "~=":
        return _unquoted(text)
    alternative = len(text) > 1 and text[0] == text[-1] and text[0] in "/|"
    expression = text[1:-1] if alternative else _unquoted(text)
    if _GROUP.search(expression) or len(_REPETITION.findall(expression)) > _MOST_REPETITIONS:
        raise UnsupportedError(
            f"the expression {expression[:80]!r} is too complex",
            hint=f"no groups, and at most {_MOST_REPETITIONS} repetition",
        )
    try:
        re.compile(expression)
    except re.error as error:
        raise InvalidArgumentError(f"invalid expression {expression[:80]!r}: {error}") from None
    return expression


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    return _ESCAPED.sub(r"\1", text[1:-1])


def _found(fields: Fields, path: tuple[str, ...]) -> str | None:
    """Return the value at *path*; keys of mappings may have dots that were not quoted."""
    value = fields.get(path[0])
    if isinstance(value, Mapping):
        value = value.get(".".join(path[1:]))
    elif isinstance(value, list):
        value = ",".join(value)
    return value if isinstance(value, str) else None
