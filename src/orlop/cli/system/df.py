"""orlop system df."""

from __future__ import annotations

from orlop.cli.options import Command, flag, text
from orlop.cli.output.listing import Listing, write_table
from orlop.cli.output.units import ago, epoch, short_id, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client

LISTING = Listing(
    {
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
    default=("Type", "TotalCount", "Active", "Size", "Reclaimable"),
)


class SystemDfCommand(Command):
    description = "Shows how much disk images, containers and volumes take, and what prune frees."

    form = text("--format", metavar="TEMPLATE", help="table, table TEMPLATE, TEMPLATE or json")
    verbose = flag("-v", "--verbose", help="list each image, container and volume")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print the summary, or each thing."""
        usage = client.system.disk_usage()
        if self.verbose:
            _each(usage, out)
            return 0
        rows = [_images(usage), _containers(usage), _volumes(usage), _cache(usage)]
        LISTING.show(rows, out, form=self.form)
        return 0


def _row(name: str, things: list[Any], *, active: int, total: int, free: int) -> dict[str, str]:
    share = f" ({100 * free // total}%)" if total else ""
    return {
        "Type": name,
        "TotalCount": str(len(things)),
        "Active": str(active),
        "Size": size(total),
        "Reclaimable": f"{size(free)}{share}",
    }


def _images(usage: dict[str, Any]) -> dict[str, str]:
    images = usage.get("Images") or []
    total = int(usage.get("LayersSize") or 0)
    used = [image for image in images if (image.get("Containers") or 0) > 0]
    if (told := usage.get("ImageUsage")) is not None:
        free = int(told["Reclaimable"])
    else:  # an engine before API 1.52: what images share counts as free
        kept = sum(image["Size"] - max(0, image.get("SharedSize") or 0) for image in used)
        free = max(0, total - kept)
    return _row("Images", images, active=len(used), total=total, free=free)


def _containers(usage: dict[str, Any]) -> dict[str, str]:
    containers = usage.get("Containers") or []
    running = [found for found in containers if found["State"] in ("running", "paused")]
    total = sum(found.get("SizeRw") or 0 for found in containers)
    free = total - sum(found.get("SizeRw") or 0 for found in running)
    return _row("Containers", containers, active=len(running), total=total, free=free)


def _volumes(usage: dict[str, Any]) -> dict[str, str]:
    volumes = usage.get("Volumes") or []
    data = [volume.get("UsageData") or {} for volume in volumes]
    total = sum(max(0, known.get("Size") or 0) for known in data)
    used = [known for known in data if (known.get("RefCount") or 0) > 0]
    free = total - sum(max(0, known.get("Size") or 0) for known in used)
    return _row("Local Volumes", volumes, active=len(used), total=total, free=free)


def _cache(usage: dict[str, Any]) -> dict[str, str]:
    cache = usage.get("BuildCache") or []
    total = sum(entry.get("Size") or 0 for entry in cache)
    return _row("Build Cache", cache, active=0, total=total, free=total)


def _each(usage: dict[str, Any], out: TextIO) -> None:
    print("Images space usage:\n", file=out)
    rows = [["REPOSITORY:TAG", "IMAGE ID", "CREATED", "SIZE", "CONTAINERS"]]
    for image in usage.get("Images") or ():
        name = ", ".join(image.get("RepoTags") or ["<none>"])
        made, count = ago(float(image["Created"])), str(image.get("Containers") or 0)
        rows.append([name, short_id(image["Id"]), made, size(image["Size"]), count])
    write_table(rows, out)
    print("\nContainers space usage:\n", file=out)
    rows = [["CONTAINER ID", "IMAGE", "SIZE", "STATUS", "NAMES"]]
    for found in usage.get("Containers") or ():
        names = ",".join(name.lstrip("/") for name in found["Names"])
        own = size(found.get("SizeRw") or 0)
        rows.append([short_id(found["Id"]), found["Image"], own, found["Status"], names])
    write_table(rows, out)
    print("\nLocal Volumes space usage:\n", file=out)
    rows = [["VOLUME NAME", "CREATED", "LINKS", "SIZE"]]
    for volume in usage.get("Volumes") or ():
        known = volume.get("UsageData") or {}
        made = ago(epoch(str(volume.get("CreatedAt") or "")))
        rows.append(
            [volume["Name"], made, str(known.get("RefCount")), size(known.get("Size") or 0)]
        )
    write_table(rows, out)
