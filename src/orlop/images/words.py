"""Split the words of a Dockerfile instruction: quotes, backslashes and variables.

Dockerfile reference, "Environment replacement".
"""

import re
from collections.abc import Mapping

_VARIABLE = r"(?P<variable>\$(?:\w+|\{[^}]*\}))"
_WORD = re.compile(r"""(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s'"\\])+""", re.DOTALL)
_PART = re.compile(
    r"""'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)|"""
    rf"""{_VARIABLE}|(?P<open>\$\{{|['"])""",
    re.ASCII | re.DOTALL,
)
_QUOTED_PART = re.compile(
    rf"""\\(?P<escaped>["$\\])|{_VARIABLE}|(?P<open>\$\{{)""", re.ASCII | re.DOTALL
)
_BRACED = re.compile(r"(\w+)(?::([-+])(.*))?", re.ASCII | re.DOTALL)


def split(text: str) -> list[str]:
    """Return the words of *text*, still quoted. ValueError if a quote is not closed."""
    if _WORD.sub("", text).strip():
        raise ValueError("a quote is not closed")
    return _WORD.findall(text)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Return *text* without its quotes, and with the values of $NAME, ${NAME}, :- and :+.

    A variable that is not set is empty. A value is never split or expanded again.
    Raises ValueError if a quote or brace is not closed, or a modifier is unknown.
    """
    return _PART.sub(lambda match: _part(match, variables), text)


def _part(match: re.Match[str], variables: Mapping[str, str]) -> str:
    found = match.groupdict()
    if found["open"] is not None:
        raise ValueError("a quote or brace is not closed")
    if found.get("double") is not None:
        return _QUOTED_PART.sub(lambda inner: _part(inner, variables), found["double"])
    if found["variable"] is not None:
        return _value(found["variable"], variables)
    return found["escaped"] if found["escaped"] is not None else found["single"]


def _value(reference: str, variables: Mapping[str, str]) -> str:
    braced = _BRACED.fullmatch(reference[1:].removeprefix("{").removesuffix("}"))
    if braced is None:
        raise ValueError(f"unsupported variable {reference[:100]!r}")
    name, modifier, word = braced.groups()
    value = variables.get(name, "")
    if modifier is None:
        return value
    if modifier == "+":
        return expand(word, variables) if value else ""
    return value or expand(word, variables)
