"""Find the handler for a method and a path."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from orlop.api.messages import Query, Reply, Request
from orlop.engine.engine import Engine
from orlop.errors import InvalidArgumentError

MIN_VERSION = (1, 24)
MAX_VERSION = (1, 45)

_VERSIONED = re.compile(r"/v(\d{1,4})\.(\d{1,4})(/.*)", re.DOTALL)
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")


class Call(NamedTuple):
    """One request for a handler."""

    engine: Engine
    request: Request
    args: Mapping[str, str]  # the values of the pattern's {names}
    version: tuple[int, int]  # the client's API version

    @property
    def query(self) -> Query:
        return self.request.query

    @property
    def name(self) -> str:
        """The {name} in the path: a container, image, volume, exec …"""
        return self.args["name"]


Endpoint = Callable[[Call], Awaitable[Reply]]


class Route(NamedTuple):
    """A row of the table. *completes*: runs to its end even if the client is gone."""

    method: str
    pattern: str  # {name} is one segment, {name:path} one or more
    endpoint: Endpoint
    completes: bool = False


class Match(NamedTuple):
    route: Route
    args: Mapping[str, str]


class Router:
    """Finds the route of a request: first by method and first segment, then in order."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        self._paths: dict[str, list[re.Pattern[str]]] = {}
        for route in routes:
            first = _first_segment(route.pattern)
            pattern = _compile(route.pattern)
            self._routes.setdefault((route.method, first), []).append((pattern, route))
            self._paths.setdefault(first, []).append(pattern)

    def find(self, method: str, path: str) -> Match | None:
        """Return the route and the pattern's values; None for an unknown path."""
        for pattern, route in self._routes.get((method, _first_segment(path)), ()):
            match = pattern.fullmatch(path)
            if match is not None:
                return Match(route, match.groupdict())
        return None

    def knows(self, path: str) -> bool:
        """Whether *path* exists with another method."""
        return any(p.fullmatch(path) for p in self._paths.get(_first_segment(path), ()))


def split_version(path: str) -> tuple[tuple[int, int], str]:
    """Return the API version in a path, and the path without it."""
    match = _VERSIONED.fullmatch(path)
    if match is None:
        return MAX_VERSION, path
    version = (int(match[1]), int(match[2]))
    text = f"{version[0]}.{version[1]}"
    if version < MIN_VERSION:
        raise InvalidArgumentError(
            f"client version {text} is too old. Minimum supported API version is "
            f"{version_text(MIN_VERSION)}, please upgrade your client to a newer version"
        )
    if version > MAX_VERSION:
        raise InvalidArgumentError(
            f"client version {text} is too new. Maximum supported API version is "
            f"{version_text(MAX_VERSION)}"
        )
    return version, match[3]


def version_text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]


def _compile(pattern: str) -> re.Pattern[str]:
    text = _PARAMETER.sub(lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", pattern)
    return re.compile(text, re.DOTALL)
