"""`orlop-runtime delete`."""

from __future__ import annotations

from orlop.cli.options import Arguments, flag, operand
from orlop.lifecycle.delete import delete
from orlop.programs.oci.choosing import chosen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.oci.main import Settings


class Args(Arguments):
    force = flag("-f", "--force", help="delete the container even if it runs (by SIGKILL)")
    regex = flag("-r", "--regex", help="all containers whose id matches (as crun)")
    container = operand("container-id")


def run(args: Args, settings: Settings) -> int:
    """Remove everything of a container."""
    for folder in chosen(settings, args.container, regex=args.regex):
        for warning in delete(folder, force=args.force):
            settings.journal.warning(warning)
    return 0
