"""orlop engine: the engine in the foreground."""

from __future__ import annotations

import os
import sys

from orlop.cli.options import Arguments, operands

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
    examples = (("orlop --root /srv/orlop --run /run/orlop2 engine", "a second engine"),)

    words = operands("OPTIONS", optional=True)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Become the engine; never returns."""
    chosen = client.settings
    environment = {**os.environ, "ORLOP_ROOT": chosen.root, "ORLOP_RUN": chosen.run}
    isolation = "-P" if environment.get("PYTHONPATH") else "-I"
    words = [sys.executable, isolation, "-m", "orlop.programs.engine", *args.words]
    out.flush()
    os.execve(sys.executable, words, environment)
