"""orlop network ls."""

from __future__ import annotations

from orlop.cli.options import Command, flag, text, texts
from orlop.cli.output.listing import Listing, parse_filters
from orlop.cli.output.units import short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client

LISTING = Listing(
    {
        "ID": "NETWORK ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "IPv4": "IPV4",
        "IPv6": "IPV6",
        "Internal": "INTERNAL",
        "Labels": "LABELS",
        "CreatedAt": "CREATED AT",
    },
    default=("ID", "Name", "Driver", "Scope"),
)


class NetworkLsCommand(Command):
    description = "Lists networks."
    examples = (("orlop network ls --filter type=custom -q", "ids of one's own"),)

    filters = texts(
        "-f", "--filter", metavar="KEY=VALUE", help="name, id, driver, label, type, dangling, scope"
    )
    form = text("--format", metavar="TEMPLATE", help="table, table TEMPLATE, TEMPLATE or json")
    no_trunc = flag("--no-trunc", help="show ids in full")
    quiet = flag("-q", "--quiet", help="only ids")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """List them by name."""
        found = client.networks.list(filters=parse_filters(self.filters))
        found.sort(key=lambda network: str(network["Name"]))
        rows = [row(network, full=self.no_trunc) for network in found]
        LISTING.show(rows, out, form=self.form or ("{{.ID}}" if self.quiet else ""))
        return 0


def row(network: dict[str, Any], *, full: bool) -> dict[str, Any]:
    """Return the fields of one network, as text."""
    labels = network.get("Labels") or {}
    return {
        "ID": network["Id"] if full else short_id(network["Id"]),
        "Name": network["Name"],
        "Driver": network["Driver"],
        "Scope": network.get("Scope") or "local",
        "IPv4": _truth(network.get("EnableIPv4", True)),
        "IPv6": _truth(network.get("EnableIPv6")),
        "Internal": _truth(network.get("Internal")),
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "CreatedAt": _moment(str(network.get("Created") or "")),
        "Label": lambda name: labels.get(name, ""),
    }


def _truth(value: object) -> str:
    return "true" if value else "false"


def _moment(text: str) -> str:
    """Return 2026-01-02T03:04:05.678Z as Docker shows it: 2026-01-02 03:04:05.678 +0000 UTC."""
    return text.removesuffix("Z").replace("T", " ") + " +0000 UTC" if text.endswith("Z") else text
