"""Progress of pull, push, load and import: bars on a terminal, else lines."""

from __future__ import annotations

from orlop.errors import (
    CorruptError,
    ExhaustedError,
    NotFoundError,
    OrlopError,
    PermissionDeniedError,
)
from orlop.model.plain import one_line, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

#: What a message that ends a stream means, by words in it; only for the exit code and for tests.
_MEANINGS = (
    ("not found", NotFoundError),
    ("manifest unknown", NotFoundError),
    ("unauthorized", PermissionDeniedError),
    ("denied", PermissionDeniedError),
    ("no space left", ExhaustedError),
    ("digest", CorruptError),
)


def show(messages: Iterable[dict[str, Any]], out: TextIO, *, quiet: bool = False) -> None:
    """Draw *messages* on *out* until they end; OrlopError if they end with one.

    Quietly, only the digest (or id) that is the result is printed.
    """
    if quiet:
        digest = ""
        for message in _checked(messages):
            digest = _digest(message) or digest
        if digest:
            print(digest, file=out)
    elif out.isatty():
        from orlop.cli.output.bars import draw

        draw(_checked(messages), out)
    else:
        for message in _checked(messages):
            _line(message, out)


def _checked(messages: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Pass *messages* on; raise the one that is an error."""
    for message in messages:
        if "error" in message or "errorDetail" in message:
            detail = message.get("errorDetail") or {}
            text = str(detail.get("message") or message.get("error"))
            lowered = text.lower()
            kind = next((kind for words, kind in _MEANINGS if words in lowered), OrlopError)
            raise kind(text)
        yield message


def _digest(message: dict[str, Any]) -> str:
    status = str(message.get("status") or "")
    if status.startswith("sha256:"):
        return status
    for part in status.replace(",", " ").split():
        if part.startswith("sha256:"):
            return part
    _, found, digest = status.partition("digest: ")
    return digest.split()[0] if found and digest else ""


def _line(message: dict[str, Any], out: TextIO) -> None:
    """One line for one message; those that only count are left out."""
    if message.get("stream"):
        print(plain(str(message["stream"])), end="", file=out, flush=True)
        return
    if message.get("progressDetail"):
        return
    status = str(message.get("status") or "")
    name = message.get("id")
    if status:
        print(one_line(f"{name}: {status}" if name else status), file=out, flush=True)
