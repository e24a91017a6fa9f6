"""The environment without os, which takes a millisecond to import: docs/decisions/cli-start.md."""

from __future__ import annotations

import posix


def variable(name: str) -> str | None:
    """Return what os.environ has for *name*; None if it is not set."""
    value = posix.environ.get(name.encode(errors="surrogateescape"))
    return None if value is None else value.decode(errors="surrogateescape")
