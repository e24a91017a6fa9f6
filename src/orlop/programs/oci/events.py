"""`orlop-runtime events`."""

from __future__ import annotations

import sys

from orlop.cli.options import Arguments, flag, number, operand
from orlop.lifecycle.events import follow, statistics
from orlop.lifecycle.folder import Folder
from orlop.model import jsontext
from orlop.model.durations import parse_duration_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orlop.programs.oci.main import Settings

_INTERVAL_MS = 5000


def milliseconds(word: str) -> int:
    """Return the length of "5s" or "1m30s"; ValueError for any other text, and below 1 ms."""
    length = parse_duration_ns(word) // 1_000_000
    if not 1 <= length < 1 << 40:
        raise ValueError("expected a length of time above 0")
    return length


class Args(Arguments):
    interval = number(
        "--interval",
        metavar="LENGTH",
        convert=milliseconds,
        help="time from one to the next (default: 5s)",
    )
    stats = flag("--stats", help="display what the container uses, then exit")
    container = operand("container-id")


def run(args: Args, settings: Settings) -> int:
    """Print what a container uses, and its deaths for want of memory, one JSON object a line."""
    folder = Folder(settings.folder, args.container)
    record = folder.load()
    if args.stats:
        _print(statistics(folder, record))
        return 0
    for event in follow(folder, record, interval_s=(args.interval or _INTERVAL_MS) / 1000):
        _print(event)
    return 0


def _print(event: dict[str, Any]) -> None:
    sys.stdout.write(jsontext.dumps(event) + "\n")
    sys.stdout.flush()
