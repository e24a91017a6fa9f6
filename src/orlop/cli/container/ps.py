"""orlop ps."""

from __future__ import annotations

from orlop.cli.options import Command, flag, number, text, texts
from orlop.cli.output.listing import Listing, parse_filters
from orlop.cli.output.portlist import port_list
from orlop.cli.output.units import ago, local_time, short_id, size, truncated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client

_COMMAND_WIDTH = 20
LISTING = Listing(
    {
        "ID": "CONTAINER ID",
        "Names": "NAMES",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED",
        "Ports": "PORTS",
        "State": "STATE",
        "Status": "STATUS",
        "Size": "SIZE",
        "Labels": "LABELS",
        "Mounts": "MOUNTS",
        "LocalVolumes": "LOCAL VOLUMES",
        "Networks": "NETWORKS",
    },
    default=("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"),
)


class PsCommand(Command):
    description = "Lists containers: those that run, or with -a all."
    examples = (
        ("orlop ps -a --filter status=exited", "those that have stopped"),
        ("orlop ps --format '{{.Names}}: {{.Status}}'", "only what is wanted"),
        ("orlop rm $(orlop ps -aq)", "ids, for other commands"),
    )

    all_states = flag("-a", "--all", help="also show stopped containers")
    filters = texts("-f", "--filter", metavar="KEY=VALUE", help="name, id, status, label, …")
    form = text("--format", metavar="TEMPLATE", help="table, table TEMPLATE, TEMPLATE or json")
    last = number("-n", "--last", help="show the last N created, in any state")
    latest = flag("-l", "--latest", help="show the last one created")
    no_trunc = flag("--no-trunc", help="show everything in full")
    quiet = flag("-q", "--quiet", help="only ids")
    size = flag("-s", "--size", help="show the sizes of their file systems")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """List them, newest first."""
        limit = 1 if self.latest else self.last
        form = self.form or ("{{.ID}}" if self.quiet else "")
        found = client.containers.list(
            all_states=self.all_states or limit is not None,
            limit=limit,
            size=self.size or ".Size" in form,
            filters=parse_filters(self.filters),
        )
        default = ""
        if self.size:
            shown = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names", "Size")
            default = "\t".join(f"{{{{.{name}}}}}" for name in shown)
        rows = [row(container, full=self.no_trunc) for container in found]
        LISTING.show(rows, out, form=form, default=default)
        return 0


def row(container: dict[str, Any], *, full: bool) -> dict[str, Any]:
    """Return the fields of one container, as text."""
    labels = container.get("Labels") or {}
    mounts = [mount.get("Name") or mount.get("Source") or "" for mount in container["Mounts"]]
    names = [name.lstrip("/") for name in container["Names"]]
    command = f'"{container["Command"]}"'
    return {
        "ID": container["Id"] if full else short_id(container["Id"]),
        "Names": ",".join(names),
        "Image": _image(container, full=full),
        "Command": command if full else _short_command(command),
        "CreatedAt": local_time(container["Created"]),
        "RunningFor": ago(container["Created"]),
        "Ports": port_list(container.get("Ports") or ()),
        "State": container["State"],
        "Status": container["Status"],
        "Size": _size(container),
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Mounts": ",".join(mounts if full else [truncated(mount, 15) for mount in mounts]),
        "LocalVolumes": str(sum(mount.get("Driver") == "local" for mount in container["Mounts"])),
        "Networks": ",".join((container.get("NetworkSettings") or {}).get("Networks") or {}),
        "Label": lambda name: labels.get(name, ""),
    }


def _image(container: dict[str, Any], *, full: bool) -> str:
    image = str(container["Image"])
    return image if full or not image.startswith("sha256:") else short_id(image)


def _short_command(command: str) -> str:
    return truncated(command[1:-1], _COMMAND_WIDTH - 2).join('""')


def _size(container: dict[str, Any]) -> str:
    own = size(container.get("SizeRw") or 0)
    whole = container.get("SizeRootFs")
    return f"{own} (virtual {size(whole)})" if whole else own
