"""orlop engine: the engine in the foreground."""

from __future__ import annotations

import os
import sys

from orlop.cli.options import Command, flag, text
from orlop.client.launch import engine_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class EngineCommand(Command):
    description = (
        "Runs the engine in the foreground, for service managers; it is otherwise started when\n"
        "it is first needed. --root and --run stand before the command."
    )
    examples = (
        ("orlop --root /srv/orlop --run /run/orlop2 engine", "a second engine"),
        ("orlop engine --stop", "end the engine that was started on demand; containers run on"),
    )

    snapshotter = text(
        "--snapshotter", metavar="NAME", help="default: the best that works on this host"
    )
    debug = flag("--debug", help="log every request")
    stop = flag("--stop", help="stop the running engine; containers keep running")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Become the engine; never returns."""
        out.flush()
        words = ["--snapshotter", self.snapshotter] if self.snapshotter else []
        words += ["--debug"] if self.debug else []
        words += ["--stop"] if self.stop else []
        os.execv(sys.executable, [*engine_command(client.settings), *words])
