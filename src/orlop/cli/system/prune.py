"""orlop system prune."""

from __future__ import annotations

from orlop.cli.each import confirmed
from orlop.cli.image.manage import report
from orlop.cli.options import Command, flag, texts
from orlop.cli.output.listing import parse_filters
from orlop.cli.output.units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class SystemPruneCommand(Command):
    description = (
        "Removes stopped containers, networks that no container uses, images without a name, and\n"
        "what interrupted pulls have left; with -a all images that no container uses; with\n"
        "--volumes also volumes without a name that no container has."
    )

    all_unused = flag("-a", "--all", help="all images that no container uses")
    force = flag("-f", "--force", help="do not ask")
    volumes = flag("--volumes", help="also volumes without a name")
    filters = texts("--filter", metavar="KEY=VALUE", help="until=24h, label=…")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Remove all of it, and print what went."""
        filters = parse_filters(self.filters)
        if not self.force and not confirmed(_question(self), out):
            return 0
        answer = client.containers.prune(filters=filters)
        freed = int(answer.get("SpaceReclaimed") or 0)
        if answer.get("ContainersDeleted"):
            print("Deleted Containers:", *answer["ContainersDeleted"], "", sep="\n", file=out)
        if removed := client.networks.prune(filters=filters):
            print("Deleted Networks:", *removed, "", sep="\n", file=out)
        if self.volumes:
            kept = {key: value for key, value in filters.items() if key != "until"}
            answer = client.volumes.prune(filters=kept)
            freed += int(answer.get("SpaceReclaimed") or 0)
            if answer.get("VolumesDeleted"):
                print("Deleted Volumes:", *answer["VolumesDeleted"], "", sep="\n", file=out)
        dangling = {**filters, "dangling": ["false" if self.all_unused else "true"]}
        answer = client.images.prune(filters=dangling)
        freed += int(answer.get("SpaceReclaimed") or 0)
        report(answer, out)
        print(f"Total reclaimed space: {size(freed)}", file=out)
        return 0


def _question(args: SystemPruneCommand) -> str:
    what = ["all stopped containers", "all networks that no container uses"]
    if args.volumes:
        what.append("all volumes without a name that no container has")
    what.append(f"all images without a {'container' if args.all_unused else 'name'}")
    return "This will remove:\n" + "".join(f"  - {thing}\n" for thing in what)
