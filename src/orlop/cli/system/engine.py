"""orlop engine: the engine in the foreground."""

from __future__ import annotations

import os
import sys

from orlop.cli.options import Arguments, operands
from orlop.client.launch import engine_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    interspersed = False
    description = (
        "Runs the engine in the foreground, for service managers; it is otherwise started when\n"
        "it is first needed. --root and --run stand before the command."
    )
    examples = (
        ("orlop --root /srv/orlop --run /run/orlop2 engine", "a second engine"),
        ("orlop engine --stop", "end the engine that was started on demand; containers run on"),
    )

    words = operands("OPTIONS", optional=True)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Become the engine; never returns."""
    out.flush()
    os.execv(sys.executable, [*engine_command(client.settings), *args.words])
