"""Environment variables without os, which takes 1 ms to import: docs/decisions/cli-start.md."""

from __future__ import annotations

import posix


def variable(name: str) -> str | None:
    """Return the value of *name* as in os.environ; None if it is not set."""
    value = posix.environ.get(name.encode(errors="surrogateescape"))
    return None if value is None else value.decode(errors="surrogateescape")
