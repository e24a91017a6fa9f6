"""`orlop-runtime kill`."""

from __future__ import annotations

from orlop.cli.options import Arguments, flag, operand
from orlop.errors import InvalidArgumentError
from orlop.lifecycle import kill
from orlop.model.signals import signal_number
from orlop.programs.oci.choosing import chosen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.oci.main import Settings


class Args(Arguments):
    all = flag("-a", "--all", help="send the signal to all processes inside the container")
    regex = flag("-r", "--regex", help="to all containers whose id matches (as crun)")
    container = operand("container-id")
    signal = operand("signal", optional=True)


def run(args: Args, settings: Settings) -> int:
    """Send the signal, SIGTERM if none is named."""
    try:
        number = signal_number(args.signal or "TERM")
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None
    for folder in chosen(settings, args.container, regex=args.regex):
        record = folder.load()
        if args.all:
            kill.send_all(record, number)
        else:
            kill.kill(record, number)
    return 0
