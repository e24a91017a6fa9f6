"""--timeline: where the time of a run went, on stderr or in a file."""

from __future__ import annotations

import os

from orlop.cli.container import attached
from orlop.client.timed import TimedClient
from orlop.errors import InvalidArgumentError, OrlopError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from orlop.client.client import Client
    from orlop.model.timeline import Step

#: What --timeline alone means: the terminal.
HERE = "-"
_WIDTH = 120  # of what is no terminal


def timed(where: str, client: Client, err: TextIO, run: Callable[[Client], int]) -> int:
    """Call *run* with a client that takes times, and show them; return what it returned."""
    if where != HERE:
        try:
            _check(where)
        except OrlopError as error:
            attached.say(err, error)
            return attached.ENGINE_FAILED
    with TimedClient(client.settings) as watch:
        begun = watch.times.now()
        try:
            return run(watch)
        finally:
            watch.times.note("run", begun)
            _show(where, watch.timeline(watch.created), err)


def _check(path: str) -> None:
    """Refuse a file that cannot be written before anything is run."""
    try:
        with open(path, "a", encoding="utf-8"):
            return
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidArgumentError(f"cannot write timeline {path}: {reason}") from None


def _show(where: str, steps: Sequence[Step], err: TextIO) -> None:
    from orlop.sandbox.timeline import Timeline

    timeline = Timeline(steps)
    if where != HERE:
        timeline.save(where)
        return
    from orlop.cli import terminal
    from orlop.cli.screen import canvas

    size = terminal.size(err.fileno())
    color = size is not None and "NO_COLOR" not in os.environ
    drawn = timeline.waterfall(width=size[1] if size else _WIDTH, color=color)
    print(drawn, file=canvas(err))
