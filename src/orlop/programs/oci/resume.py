"""`orlop-runtime resume`."""

from __future__ import annotations

from orlop.cli.options import Arguments, operand
from orlop.lifecycle.folder import Folder
from orlop.lifecycle.pause import resume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.oci.main import Settings


class Args(Arguments):
    container = operand("container-id")


def run(args: Args, settings: Settings) -> int:
    """Resume the processes of a paused container."""
    resume(Folder(settings.folder, args.container))
    return 0
