"""`orlop-runtime pause`."""

from __future__ import annotations

from orlop.cli.options import Arguments, operand
from orlop.lifecycle.folder import Folder
from orlop.lifecycle.pause import pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.oci.main import Settings


class Args(Arguments):
    container = operand("container-id")


def run(args: Args, settings: Settings) -> int:
    """Suspend all processes of a container."""
    pause(Folder(settings.folder, args.container))
    return 0
