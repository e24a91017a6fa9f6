"""orlop history."""

from __future__ import annotations

from orlop.cli.options import IMAGE, Command, flag, operand, text
from orlop.cli.output.listing import Listing
from orlop.cli.output.units import ago, local_time, short_id, size, truncated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client

_CREATED_BY_WIDTH = 45
LISTING = Listing(
    {
        "ID": "IMAGE",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    },
    default=("ID", "CreatedSince", "CreatedBy", "Size", "Comment"),
)


class HistoryCommand(Command):
    description = "Shows how an image was made, the last step first."

    human = flag("-H", "--human", help="print readable sizes and times", default=True)
    form = text("--format", metavar="TEMPLATE", help="table, table TEMPLATE, TEMPLATE or json")
    no_trunc = flag("--no-trunc", help="show everything in full")
    quiet = flag("-q", "--quiet", help="only ids")
    image = operand("IMAGE", completes=IMAGE)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """List the steps."""
        rows = [_row(step, self) for step in client.images.history(self.image)]
        LISTING.show(rows, out, form=self.form or ("{{.ID}}" if self.quiet else ""))
        return 0


def _row(step: dict[str, Any], args: HistoryCommand) -> dict[str, Any]:
    made_by = str(step.get("CreatedBy") or "").replace("\t", " ")
    count, created = int(step.get("Size") or 0), float(step.get("Created") or 0)
    return {
        "ID": step["Id"] if args.no_trunc else short_id(step["Id"]),
        "CreatedSince": ago(created) if args.human else local_time(created),
        "CreatedAt": local_time(created),
        "CreatedBy": made_by if args.no_trunc else truncated(made_by, _CREATED_BY_WIDTH),
        "Size": size(count) if args.human else str(count),
        "Comment": str(step.get("Comment") or ""),
    }
