"""Evaluate the expressions between {{ and }}: fields, variables, literals, calls, pipes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from orlop.errors import InvalidArgumentError
from orlop.model import jsontext

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
      | (?P<number>-?\d+(?:\.\d+)?)
      | (?P<path>(?:\$\w*)?(?:\.\w+)+|\$\w*|\.)
      | (?P<word>\w+)
      | (?P<closed>\)(?:\.\w+)*)
      | (?P<mark>[(|])
    )""",
    re.VERBOSE,
)
#: Maps with the user's own keys: a missing key is not an error in the template.
_MAPS = frozenset(
    ["Annotations", "Attributes", "Labels", "Networks", "Options", "Ports", "Sysctls", "Volumes"]
)
_LONGEST = 1 << 20  # characters: clients send templates to the engine, too
_MOST_NESTED = 50
_WIDTH = re.compile(r"%[^a-zA-Z%]*\d{4}|%[^a-zA-Z%]*\*")
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


class Scope:
    """The context of an expression: the dot and the variables."""

    def __init__(self, dot: Any, variables: dict[str, Any]) -> None:
        self.dot = dot
        self.variables = variables

    def within(self, dot: Any) -> Scope:
        """Return a nested scope with another *dot*."""
        return Scope(dot, dict(self.variables))


Expression = Callable[[Scope], Any]


def wrong(what: str) -> InvalidArgumentError:
    """Return the error about a template: *what*."""
    return InvalidArgumentError(f"invalid template: {what}")


def parse_expression(source: str) -> Expression:
    """Return a function that evaluates *source*; InvalidArgumentError if it is invalid."""
    if source.count("(") > _MOST_NESTED:
        raise wrong("too many parentheses")
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(source.rstrip()):
        match = _TOKEN.match(source, position)
        if match is None:
            raise wrong(f"unexpected {source[position:].strip()[:20]!r}")
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
        position = match.end()
    tokens.reverse()
    expression = _pipeline(tokens)
    if tokens:
        raise wrong(f"unexpected {tokens[-1][1]!r}")
    return expression


def _pipeline(tokens: list[tuple[str, str]]) -> Expression:
    """COMMAND | COMMAND …: the result of one is the last argument of the next."""
    expression = _command(tokens, piped=None)
    while tokens and tokens[-1] == ("mark", "|"):
        tokens.pop()
        expression = _command(tokens, piped=expression)
    return expression


def _command(tokens: list[tuple[str, str]], *, piped: Expression | None) -> Expression:
    if not tokens:
        raise wrong("missing value")
    kind, text = tokens[-1]
    named = kind == "word" and text not in ("true", "false", "nil")
    if named:
        tokens.pop()
        if text not in FUNCTIONS:
            raise wrong(f"function {text!r} not defined")
    head = None if named else _operand(tokens)
    arguments = []
    while tokens and tokens[-1] != ("mark", "|") and tokens[-1][0] != "closed":
        arguments.append(_operand(tokens))
    if piped is not None:
        arguments.append(piped)
    if head is None:
        return _call(text, arguments)
    return _method(head, arguments) if arguments else head


def _call(name: str, arguments: list[Expression]) -> Expression:
    function = FUNCTIONS[name]

    def evaluate(scope: Scope) -> Any:
        try:
            value = function(*(argument(scope) for argument in arguments))
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise wrong(f"error calling {name}: {error}") from None
        if isinstance(value, str) and len(value) > _LONGEST:
            raise wrong(f"{name} makes a text of over {_LONGEST} characters")
        return value

    return evaluate


def _method(head: Expression, arguments: list[Expression]) -> Expression:
    """`.Label "name"`: a field that is a function."""

    def evaluate(scope: Scope) -> Any:
        function = head(scope)
        if not callable(function):
            raise wrong("a field with arguments is no function")
        try:
            return function(*(argument(scope) for argument in arguments))
        except TypeError:
            raise wrong("a field has the wrong number of arguments") from None

    return evaluate


def _operand(tokens: list[tuple[str, str]]) -> Expression:
    kind, text = tokens.pop()
    if kind == "string":
        value = text[1:-1] if text[0] == "`" else _unescaped(text[1:-1])
        return lambda _scope: value
    if kind == "number":
        number = float(text) if "." in text else int(text)
        return lambda _scope: number
    if kind == "path":
        return _path(text)
    if kind == "word" and text in ("true", "false", "nil"):
        constant = {"true": True, "false": False, "nil": None}[text]
        return lambda _scope: constant
    if kind == "word" and text in FUNCTIONS:
        return _call(text, [])
    if (kind, text) == ("mark", "("):
        inner = _pipeline(tokens)
        if not tokens or tokens[-1][0] != "closed":
            raise wrong("unclosed parenthesis")
        return _path(tokens.pop()[1], inner)
    raise wrong(f"unexpected {text!r}")


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), text)


def _path(text: str, begin: Expression | None = None) -> Expression:
    """Return the fields in *text* of a variable, the dot, or the result of *begin*."""
    head, *fields = text.split(".")
    fields = [field for field in fields if field]
    start = begin or _variable(head)

    def evaluate(scope: Scope) -> Any:
        value = start(scope)
        free = begin is not None  # the result of a function may be any map
        for field in fields:
            value = _field(value, field, free=free)
            free = field in _MAPS
        return value

    return evaluate


def _variable(name: str) -> Expression:
    def evaluate(scope: Scope) -> Any:
        if name and name not in scope.variables:
            raise wrong(f"undefined variable {name!r}")
        return scope.variables[name] if name else scope.dot

    return evaluate


def _field(value: Any, name: str, *, free: bool) -> Any:
    if value is None:
        return None
    if isinstance(value, dict):
        if name in value or free:
            return value.get(name)
        raise wrong(f"no entry for key {name!r}")
    raise wrong(f"can't evaluate field {name!r}")


def truth(value: Any) -> bool:
    """Whether Go's templates treat *value* as true: not empty, not zero."""
    return bool(value)


def render_value(value: Any) -> str:
    """Return *value* as Go prints it."""
    if value is None:
        return "<no value>"
    if callable(value):
        raise wrong("a field needs an argument")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        pairs = (f"{key}:{render_value(item)}" for key, item in sorted(value.items()))
        return "map[" + " ".join(pairs) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(render_value(item) for item in value) + "]"
    return str(value)


def _json(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if not callable(item)}
    return jsontext.dumps(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, dict) else value[key]
    return value


def _printf(form: str, *values: Any) -> str:
    if _WIDTH.search(form):
        raise ValueError("a width of over 999")
    return form.replace("%v", "%s").replace("%q", '"%s"') % values


def _pad(text: str, before: int, after: int) -> str:
    if max(before, after) > _LONGEST:
        raise ValueError("too much padding")
    return " " * before + text + " " * after


def _slice(value: Any, start: int = 0, end: int | None = None) -> Any:
    return value[start:end]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": _json,
    "index": _index,
    "len": len,
    "slice": _slice,
    "join": lambda items, separator="": separator.join(render_value(item) for item in items),
    "split": lambda text, separator: text.split(separator),
    "upper": lambda text: text.upper(),
    "lower": lambda text: text.lower(),
    "title": lambda text: text.title(),
    "pad": _pad,
    "truncate": lambda text, width: text[:width],
    "print": lambda *items: "".join(render_value(item) for item in items),
    "println": lambda *items: " ".join(render_value(item) for item in items) + "\n",
    "printf": _printf,
    "not": lambda value: not truth(value),
    "and": lambda *items: next((item for item in items if not truth(item)), items[-1]),
    "or": lambda *items: next((item for item in items if truth(item)), items[-1]),
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda first, second: first != second,
    "lt": lambda first, second: first < second,
    "le": lambda first, second: first <= second,
    "gt": lambda first, second: first > second,
    "ge": lambda first, second: first >= second,
}
