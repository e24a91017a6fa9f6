"""`orlop-runtime state`."""

from __future__ import annotations

import sys

from orlop.cli.options import Arguments, operand
from orlop.lifecycle.folder import Folder
from orlop.lifecycle.record import state
from orlop.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.oci.main import Settings


class Args(Arguments):
    container = operand("container-id")


def run(args: Args, settings: Settings) -> int:
    """Print the container's state as JSON."""
    folder = Folder(settings.folder, args.container)
    sys.stdout.write(jsontext.dumps(state(folder, folder.load()), indent=2) + "\n")
    return 0
