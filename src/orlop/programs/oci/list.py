"""`orlop-runtime list`."""

from __future__ import annotations

import sys

from orlop.cli.options import Arguments, flag, text
from orlop.lifecycle.listing import states
from orlop.model import jsontext
from orlop.programs.oci.table import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.oci.main import Settings

_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


class Args(Arguments):
    format = text(
        "-f", "--format", default="table", choices=("table", "json"), help="table or json"
    )
    quiet = flag("-q", "--quiet", help="print only ids")


def run(args: Args, settings: Settings) -> int:
    """Print the containers of the root."""
    found = list(states(settings.folder, settings.journal.warning))
    if args.quiet:
        sys.stdout.write("".join(f"{state['id']}\n" for state in found))
    elif args.format == "json":
        sys.stdout.write(jsontext.dumps(found or None) + "\n")
    else:
        rows = [[str(state[name]) for name in _COLUMNS] for state in found]
        sys.stdout.write(table([name.upper() for name in _COLUMNS], rows))
    return 0
