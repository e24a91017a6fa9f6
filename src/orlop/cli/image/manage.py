"""orlop tag and rmi, image inspect and image prune."""

from __future__ import annotations

from orlop.cli.each import confirmed, each
from orlop.cli.options import IMAGE, Command, flag, operand, operands, text, texts
from orlop.cli.output.listing import parse_filters
from orlop.cli.output.units import size
from orlop.cli.screen import say
from orlop.cli.system.inspect import show
from orlop.client.images import split_tag
from orlop.errors import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class TagCommand(Command):
    description = "Gives an image another name; it keeps those it has."

    source = operand("IMAGE[:TAG]", completes=IMAGE)
    target = operand("NAME[:TAG]")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Tag it."""
        repository, tag = split_tag(self.target)
        client.images.tag(self.source, repository=repository, tag=tag or "latest")
        return 0


class RmiCommand(Command):
    description = "Removes names of images, and an image with its last name."

    force = flag("-f", "--force", help="remove all its names; ignore a missing one")
    no_prune = flag("--no-prune", help="keep untagged parents")
    names = operands("IMAGE", completes=IMAGE)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Remove each; 1 if any could not be."""

        def act(name: str) -> None:
            try:
                removed = client.images.remove(name, force=self.force, prune=not self.no_prune)
            except NotFoundError as error:
                if not self.force:
                    raise
                say(err, f"orlop: {error}")
                return
            for step in removed:
                for verb, what in step.items():
                    print(f"{verb}: {what}", file=out)

        return each(self.names, act, out=None, err=err)


class ImageInspectCommand(Command):
    description = "Shows all that is known of images, as JSON or as --format says."

    form = text("-f", "--format", metavar="TEMPLATE", help="such as {{.Architecture}}, or json")
    names = operands("IMAGE", completes=IMAGE)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print them; 1 if any was not found."""
        return show(self.names, client.images.inspect, (out, err), form=self.form)


class ImagePruneCommand(Command):
    description = "Removes images without a name, or with -a all that no container uses."

    all_unused = flag("-a", "--all", help="all images that no container uses")
    force = flag("-f", "--force", help="do not ask")
    filters = texts("--filter", metavar="KEY=VALUE", help="until=24h, label=…")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Remove them and print what went."""
        which = "all images without a container" if self.all_unused else "all images without a name"
        filters = parse_filters(self.filters)
        filters["dangling"] = ["false" if self.all_unused else "true"]
        if not self.force and not confirmed(f"This will remove {which}.", out):
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
