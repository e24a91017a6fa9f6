"""The part of Go's text/template that `--format` and the log option `tag` use.

Text with actions: {{.Field.Inner}}, {{json .}}, {{index .Map "key"}}, pipes,
{{range}} {{if}} {{with}} with {{else}} and {{end}}, {{range $key, $value := .Map}},
{{- trims -}}. Nothing else is evaluated: templates come from users, values from anybody.
"""

from __future__ import annotations

import re

from orlop.errors import InvalidArgumentError
from orlop.model.goexpressions import Expression, Scope, parse_expression, render_value, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_RANGE_NAMES = re.compile(r"^(?:(\$\w+)\s*,\s*)?(\$\w+)\s*:=\s*(.*)$", re.DOTALL)
_ASSIGNMENT = re.compile(r"^(\$\w+)\s*:?=\s*(.*)$", re.DOTALL)
_BLOCKS = ("range", "if", "with")


class Template:
    """A parsed template; InvalidArgumentError says why it cannot be parsed.

    Without *loops* it has no {{range}}, which can take arbitrarily long.
    """

    def __init__(self, source: str, *, loops: bool = True) -> None:
        self._loops = loops
        self._tokens = _tokens(source)
        self._position = 0
        self._body, ended = self._nodes(depth=0)
        if ended:
            raise _wrong(f"unexpected {{{{{ended}}}}}")

    def render(self, value: Any) -> str:
        """Return the text for *value*; InvalidArgumentError for a field that it does not have."""
        output: list[str] = []
        scope = Scope(value, {"$": value})
        for node in self._body:
            node(scope, output)
        return "".join(output)

    def _nodes(self, *, depth: int) -> tuple[list[_Node], str]:
        """Return the nodes up to {{end}} or {{else …}}, and which it was; "" at the end."""
        nodes: list[_Node] = []
        while self._position < len(self._tokens):
            text, action = self._tokens[self._position]
            self._position += 1
            if text:
                nodes.append(_literal(text))
            if action is None or action.startswith("/*"):
                continue
            keyword = action.split(None, 1)[0] if action else ""
            if keyword in ("end", "else"):
                return nodes, action
            if keyword in _BLOCKS:
                rest = action[len(keyword) :].strip()
                nodes.append(self._block(keyword, rest, depth=depth + 1))
            else:
                nodes.append(_statement(action))
        if depth:
            raise _wrong("{{end}} is missing")
        return nodes, ""

    def _block(self, keyword: str, condition: str, *, depth: int) -> _Node:
        if depth > 50:
            raise _wrong("too many nested blocks")
        if keyword == "range" and not self._loops:
            raise _wrong("range is not supported here")
        body, ended = self._nodes(depth=depth)
        otherwise: list[_Node] = []
        if ended.startswith("else"):
            rest = ended[4:].strip()
            if rest.startswith("if"):
                otherwise = [self._block("if", rest[2:].strip(), depth=depth + 1)]
            else:
                otherwise, _ = self._nodes(depth=depth)
        return _MAKERS[keyword](condition, body, otherwise)


if TYPE_CHECKING:
    _Node = Callable[[Scope, list[str]], None]


def _tokens(source: str) -> list[tuple[str, str | None]]:
    """Split into (text, following action), trimmed as the action says."""
    tokens: list[tuple[str, str | None]] = []
    position, trim = 0, False
    for match in _ACTION.finditer(source):
        text = source[position : match.start()]
        text = text.lstrip() if trim else text
        tokens.append((text.rstrip() if match[1] else text, match[2]))
        position, trim = match.end(), bool(match[3])
    rest = source[position:]
    if "{{" in rest:
        raise _wrong("unclosed {{")
    tokens.append((rest.lstrip() if trim else rest, None))
    return tokens


def _literal(text: str) -> _Node:
    def node(_scope: Scope, output: list[str]) -> None:
        output.append(text)

    return node


def _statement(action: str) -> _Node:
    match = _ASSIGNMENT.match(action)
    name, source = (match[1], match[2]) if match else ("", action)
    expression = parse_expression(source)

    def node(scope: Scope, output: list[str]) -> None:
        value = expression(scope)
        if name:
            scope.variables[name] = value
        else:
            output.append(render_value(value))

    return node


def _run(nodes: list[_Node], scope: Scope, output: list[str]) -> None:
    for node in nodes:
        node(scope, output)


def _if(condition: str, body: list[_Node], otherwise: list[_Node]) -> _Node:
    expression = parse_expression(condition)

    def node(scope: Scope, output: list[str]) -> None:
        _run(body if truth(expression(scope)) else otherwise, scope, output)

    return node


def _with(condition: str, body: list[_Node], otherwise: list[_Node]) -> _Node:
    expression = parse_expression(condition)

    def node(scope: Scope, output: list[str]) -> None:
        value = expression(scope)
        if truth(value):
            _run(body, scope.within(value), output)
        else:
            _run(otherwise, scope, output)

    return node


def _range(condition: str, body: list[_Node], otherwise: list[_Node]) -> _Node:
    match = _RANGE_NAMES.match(condition)
    key_name, value_name, source = match.groups() if match else (None, None, condition)
    expression: Expression = parse_expression(source)

    def node(scope: Scope, output: list[str]) -> None:
        items = expression(scope) or ()
        pairs = sorted(items.items()) if isinstance(items, dict) else list(enumerate(items))
        for key, value in pairs:
            inner = scope.within(value)
            if key_name:
                inner.variables[key_name] = key
            if value_name:
                inner.variables[value_name] = value
            _run(body, inner, output)
        if not pairs:
            _run(otherwise, scope, output)

    return node


_MAKERS = {"if": _if, "with": _with, "range": _range}


def _wrong(what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid template: {what}")
