"""How orlop build shows what a build tells."""

from __future__ import annotations

from orlop.errors import CommandFailedError, InvalidArgumentError, OrlopError
from orlop.model.plain import one_line, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

_SHORT = 120


def follow(
    messages: Iterable[dict[str, Any]], *, out: TextIO, err: TextIO, form: str, explains: bool
) -> str:
    """Show *messages* on *err*, print the image's id on *out*, and return it.

    As "json" the messages go to *out*, one a line. Raises what the build ended with.
    """
    import json

    image = ""
    for message in messages:
        if form == "json":
            print(json.dumps(message), file=out, flush=True)
        _raise(message)
        image = (message.get("aux") or {}).get("ID", image)
        if form == "plain" and (event := message.get("build")):
            _show(event, err, explains=explains)
    if form != "json":
        print(image, file=out)
    return image


def _raise(message: dict[str, Any]) -> None:
    if "error" not in message:
        return
    detail = message.get("errorDetail") or {}
    text = str(detail.get("message") or message["error"])
    if "code" in detail:
        raise CommandFailedError(text, code=int(detail["code"]))
    kind = InvalidArgumentError if text.startswith("Dockerfile") else OrlopError
    raise kind(text)


def _show(event: dict[str, Any], err: TextIO, *, explains: bool) -> None:
    kind = event["kind"]
    if kind == "output":
        print(plain(event.get("text", "")), end="", file=err, flush=True)
    elif kind == "step":
        place = f"[{event['stage']} {event['number']}/{event['total']}]"
        print(f"{place} {one_line(event['text'])[:_SHORT]}", file=err, flush=True)
    elif kind == "cached":
        print("    cached", file=err)
    elif kind == "done":
        why = f", {one_line(event['why'])}" if explains and event.get("why") else ""
        print(f"    {event['seconds']:.2f} s{why}", file=err)
    elif event.get("text"):
        print(f"    {one_line(event['text'])}", file=err)
