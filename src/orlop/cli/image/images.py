"""orlop images."""

from __future__ import annotations

from orlop.cli.options import IMAGE, Command, flag, operand, text, texts
from orlop.cli.output.listing import Listing, parse_filters
from orlop.cli.output.units import ago, local_time, short_id, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TextIO

    from orlop.client.client import Client

_NONE = "<none>"
LISTING = Listing(
    {
        "ID": "IMAGE ID",
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "Digest": "DIGEST",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "Size": "SIZE",
    },
    default=("Repository", "Tag", "ID", "CreatedSince", "Size"),
)


class ImagesCommand(Command):
    description = "Lists images: all, or those of one repository."
    examples = (("orlop images --filter dangling=true -q", "those without a name"),)

    all_images = flag("-a", "--all", help="also show intermediate images")
    digests = flag("--digests", help="show digests")
    filters = texts("-f", "--filter", metavar="KEY=VALUE", help="dangling, label, reference, …")
    form = text("--format", metavar="TEMPLATE", help="table, table TEMPLATE, TEMPLATE or json")
    no_trunc = flag("--no-trunc", help="show ids in full")
    quiet = flag("-q", "--quiet", help="only ids")
    repository = operand("REPOSITORY[:TAG]", optional=True, completes=IMAGE)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """List them, newest first."""
        filters = parse_filters(self.filters)
        if self.repository:
            filters.setdefault("reference", []).append(self.repository)
        found = client.images.list(
            all_images=self.all_images, digests=self.digests, filters=filters
        )
        rows = [row for image in found for row in image_rows(image, self)]
        if self.quiet and not self.form:
            for identifier in dict.fromkeys(row["ID"] for row in rows):
                print(identifier, file=out)
            return 0
        default = ""
        if self.digests:
            shown = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
            default = "\t".join(f"{{{{.{name}}}}}" for name in shown)
        LISTING.show(rows, out, form=self.form, default=default)
        return 0


def image_rows(image: dict[str, Any], args: ImagesCommand) -> Iterator[dict[str, Any]]:
    """Yield a row for each name of one image."""
    names = [_split(name) for name in image.get("RepoTags") or ()]
    digests = dict(name.split("@", 1) for name in image.get("RepoDigests") or ())
    if not names:
        names = [(repository, _NONE) for repository in digests] or [(_NONE, _NONE)]
    created = float(image["Created"])
    for repository, tag in names:
        yield {
            "ID": image["Id"] if args.no_trunc else short_id(image["Id"]),
            "Repository": repository,
            "Tag": tag,
            "Digest": digests.get(repository, _NONE),
            "CreatedSince": ago(created),
            "CreatedAt": local_time(created),
            "Size": size(image.get("Size") or 0),
        }


def _split(name: str) -> tuple[str, str]:
    repository, _, tag = name.rpartition(":")
    return repository, tag
