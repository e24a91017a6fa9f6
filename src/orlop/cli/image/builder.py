"""orlop builder du and prune."""

from __future__ import annotations

from orlop.cli.each import confirmed
from orlop.cli.options import Command, flag, text, texts
from orlop.cli.output.listing import Listing, parse_filters
from orlop.cli.output.units import ago, size
from orlop.model.plain import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client

LISTING = Listing(
    {
        "ID": "CACHE ID",
        "Size": "SIZE",
        "LastUsed": "LAST USED",
        "Uses": "USES",
        "Shared": "SHARED",
        "Description": "STEP",
    },
    default=("ID", "Size", "LastUsed", "Uses", "Shared", "Description"),
)
_SHOWN = 60
_SHORT = 12


class BuilderDuCommand(Command):
    description = "Lists what the cache of builds keeps, and how much disk that takes."

    form = text("--format", metavar="TEMPLATE", help="table, table TEMPLATE, TEMPLATE or json")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print a line for each layer and each folder of a cache mount."""
        rows = []
        for item in client.system.disk_usage().get("BuildCache") or []:
            what = one_line(item["Description"])
            rows.append(
                {
                    "ID": item["ID"][:_SHORT],
                    "Size": size(item["Size"]),
                    "LastUsed": ago(item["LastUsedNs"] / 1e9),
                    "Uses": str(item["UsageCount"]),
                    "Shared": str(item["Shared"]).lower(),
                    "Description": what if len(what) <= _SHOWN else what[:_SHOWN] + "…",
                }
            )
        LISTING.show(rows, out, form=self.form)
        return 0


class BuilderPruneCommand(Command):
    description = (
        "Removes from the cache of builds what no image has; with -a all of it. A step that is\n"
        "not in the cache is taken again by the next build."
    )

    everything = flag("-a", "--all", help="also what an image has")
    force = flag("-f", "--force", help="do not ask")
    filters = texts("--filter", metavar="KEY=VALUE", help="until=24h: unused since then")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Remove it, and print how much disk that freed."""
        filters = parse_filters(self.filters)
        which = "all of the build cache" if self.everything else "the build cache of no image"
        if not self.force and not confirmed(f"This will remove {which}.", out):
            return 0
        answer = client.builds.prune(everything=self.everything, filters=filters)
        print(f"Total reclaimed space: {size(int(answer['SpaceReclaimed']))}", file=out)
        return 0
