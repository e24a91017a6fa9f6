"""orlop volume ls."""

from __future__ import annotations

from orlop.cli.options import Arguments, flag, text, texts
from orlop.cli.output.listing import Listing, parse_filters
from orlop.cli.output.units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client

LISTING = Listing(
    {
        "Name": "VOLUME NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "Mountpoint": "MOUNTPOINT",
        "Labels": "LABELS",
        "Links": "LINKS",
        "Size": "SIZE",
    },
    default=("Driver", "Name"),
)


class Args(Arguments):
    description = "Lists volumes."

    filters = texts("-f", "--filter", metavar="KEY=VALUE", help="dangling, name, label, driver")
    form = text("--format", metavar="TEMPLATE", help="table, table TEMPLATE, TEMPLATE or json")
    quiet = flag("-q", "--quiet", help="only names")


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """List them by name."""
    found = client.volumes.list(filters=parse_filters(args.filters))
    rows = [row(volume) for volume in sorted(found, key=lambda volume: str(volume["Name"]))]
    LISTING.show(rows, out, form=args.form or ("{{.Name}}" if args.quiet else ""))
    return 0


def row(volume: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of one volume, as text."""
    labels, usage = volume.get("Labels") or {}, volume.get("UsageData")
    return {
        "Name": volume["Name"],
        "Driver": volume["Driver"],
        "Scope": volume.get("Scope") or "local",
        "Mountpoint": volume["Mountpoint"],
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Links": str(usage["RefCount"]) if usage else "N/A",
        "Size": size(usage["Size"]) if usage else "N/A",
        "Label": lambda name: labels.get(name, ""),
    }
