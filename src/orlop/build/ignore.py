"""`.dockerignore`: which paths of a context are left out."""

import functools
import posixpath
from collections.abc import Sequence
from fnmatch import fnmatchcase

_MOST_LINES = 10_000


class Ignore:
    """The patterns of a file; the last that matches a path, or a folder it is in, decides."""

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[bool, tuple[str, ...]]] = []
        for line in text.removeprefix("\ufeff").splitlines()[:_MOST_LINES]:
            pattern = line.strip()
            if not pattern or line.startswith("#"):
                continue
            keeps = pattern.startswith("!")
            clean = posixpath.normpath("/" + pattern.removeprefix("!").strip()).lstrip("/")
            if clean:
                self._rules.append((keeps, tuple(clean.split("/"))))
        self.may_keep = any(keeps for keeps, _ in self._rules)

    def leaves_out(self, path: str) -> bool:
        """Whether *path*, relative and clean, is left out."""
        parts = path.split("/")
        out = False
        for keeps, pattern in self._rules:
            if out == keeps and any(
                matches(pattern, parts[:count]) for count in range(1, len(parts) + 1)
            ):
                out = not keeps
        return out


def matches(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a path's *parts* match the pattern's; `**` matches any number of them."""

    @functools.cache
    def from_(p: int, n: int) -> bool:
        if p == len(pattern):
            return n == len(parts)
        if pattern[p] == "**":
            return from_(p + 1, n) or (n < len(parts) and from_(p, n + 1))
        return n < len(parts) and match_name(pattern[p], parts[n]) and from_(p + 1, n + 1)

    return from_(0, 0)


def match_name(pattern: str, name: str) -> bool:
    """Whether *name* matches, by the rules of Go's path.Match for one component."""
    return fnmatchcase(name, pattern.replace("[^", "[!").replace("\\", ""))
