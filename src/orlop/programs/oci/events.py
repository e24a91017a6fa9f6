"""`orlop-runtime events`."""

from __future__ import annotations

import sys

from orlop.cli.options import Arguments, flag, number, operand
from orlop.lifecycle.events import follow, statistics
from orlop.lifecycle.folder import Folder
from orlop.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orlop.programs.oci.main import Settings

_UNITS_MS = {"ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}
_INTERVAL_MS = 5000


def milliseconds(word: str) -> int:
    """Return the length of "5s", "100ms", "1.5m", "1h"; ValueError for what is none."""
    unit = word.lstrip("0123456789.")
    if unit not in _UNITS_MS:
        raise ValueError(f"expected a number and one of {', '.join(_UNITS_MS)}")
    length = float(word.removesuffix(unit)) * _UNITS_MS[unit]
    if not 1 <= length < 1 << 40:
        raise ValueError("expected a length of time above 0")
    return int(length)


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
