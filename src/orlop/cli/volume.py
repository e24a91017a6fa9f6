"""orlop volume create, ls, inspect, rm and prune."""

from __future__ import annotations

from orlop.cli.each import confirmed, each
from orlop.cli.options import VOLUME, Command, flag, operand, operands, text, texts
from orlop.cli.output.listing import Listing, parse_filters
from orlop.cli.output.units import size
from orlop.cli.system.inspect import show
from orlop.cli.values import key_values
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class VolumeCreateCommand(Command):
    description = "Creates a volume, a folder that outlives containers; prints its name."
    examples = (("orlop run -v data:/data alpine", "which also creates it"),)

    driver = text("-d", "--driver", metavar="NAME", default="local", help="default: local")
    label = texts("--label", metavar="KEY=VALUE", help="attach a label")
    option = texts("-o", "--opt", metavar="KEY=VALUE", help="for the driver")
    name = operand("NAME", optional=True)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Create it and print its name."""
        try:
            body = {
                "Name": self.name,
                "Driver": self.driver,
                "DriverOpts": key_values(self.option, option="--opt"),
                "Labels": key_values(self.label, option="--label"),
            }
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from None
        print(client.volumes.create(body)["Name"], file=out)
        return 0


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


class VolumeLsCommand(Command):
    description = "Lists volumes."

    filters = texts("-f", "--filter", metavar="KEY=VALUE", help="dangling, name, label, driver")
    form = text("--format", metavar="TEMPLATE", help="table, table TEMPLATE, TEMPLATE or json")
    quiet = flag("-q", "--quiet", help="only names")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """List them by name."""
        found = client.volumes.list(filters=parse_filters(self.filters))
        rows = [row(volume) for volume in sorted(found, key=lambda volume: str(volume["Name"]))]
        LISTING.show(rows, out, form=self.form or ("{{.Name}}" if self.quiet else ""))
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


class VolumeInspectCommand(Command):
    description = "Shows all that is known of volumes, as JSON or as --format says."

    form = text("-f", "--format", metavar="TEMPLATE", help="such as {{.Mountpoint}}, or json")
    names = operands("VOLUME", completes=VOLUME)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print them; 1 if any was not found."""
        return show(self.names, client.volumes.inspect, (out, err), form=self.form)


class VolumeRmCommand(Command):
    description = "Removes volumes and what is in them; not those that a container has."

    force = flag("-f", "--force", help="ignore a missing one")
    names = operands("VOLUME", completes=VOLUME)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Remove each; 1 if any could not be."""

        def act(name: str) -> None:
            client.volumes.remove(name, force=self.force)

        return each(self.names, act, out=out, err=err)


class VolumePruneCommand(Command):
    description = "Removes volumes that no container has: those without a name, or with -a all."

    all_unused = flag("-a", "--all", help="also named volumes")
    force = flag("-f", "--force", help="do not ask")
    filters = texts("--filter", metavar="KEY=VALUE", help="label=…")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Remove them and print their names."""
        which = "all volumes" if self.all_unused else "volumes without a name"
        filters = parse_filters(self.filters)
        if self.all_unused:
            filters["all"] = ["true"]
        if not self.force and not confirmed(
            f"This will remove {which} that no container has.", out
        ):
            return 0
        answer = client.volumes.prune(filters=filters)
        removed = answer.get("VolumesDeleted") or []
        if removed:
            print("Deleted Volumes:", *removed, "", sep="\n", file=out)
        print(f"Total reclaimed space: {size(answer.get('SpaceReclaimed') or 0)}", file=out)
        return 0
