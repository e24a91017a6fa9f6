"""`orlop-runtime start`."""

from __future__ import annotations

from orlop.cli.options import Arguments, operand
from orlop.lifecycle import start
from orlop.lifecycle.folder import Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.oci.main import Settings


class Args(Arguments):
    container = operand("container-id")


def run(args: Args, settings: Settings) -> int:
    """Let the program of a created container run."""
    start.start(Folder(settings.folder, args.container))
    return 0
