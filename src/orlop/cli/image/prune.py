"""orlop image prune."""

from __future__ import annotations

from orlop.cli.each import confirmed
from orlop.cli.options import Arguments, flag, texts
from orlop.cli.output.listing import parse_filters
from orlop.cli.output.units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Removes images without a name, or with -a all that no container uses."

    all_unused = flag("-a", "--all", help="all that no container uses")
    force = flag("-f", "--force", help="do not ask")
    filters = texts("--filter", metavar="KEY=VALUE", help="until=24h, label=…")


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Remove them and print what went."""
    which = "all images without a container" if args.all_unused else "all images without a name"
    filters = parse_filters(args.filters)
    filters["dangling"] = ["false" if args.all_unused else "true"]
    if not args.force and not confirmed(f"This will remove {which}.", out):
        return 0
    answer = client.images.prune(filters=filters)
    report(answer, out)
    print(f"Total reclaimed space: {size(answer.get('SpaceReclaimed') or 0)}", file=out)
    return 0


def report(answer: dict[str, Any], out: TextIO) -> None:
    """Print what a prune has removed, if anything."""
    removed = answer.get("ImagesDeleted") or []
    if removed:
        print("Deleted Images:", file=out)
        for step in removed:
            for verb, what in step.items():
                print(f"{verb.lower()}: {what}", file=out)
        print(file=out)
