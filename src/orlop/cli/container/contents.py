"""orlop diff, export and commit: what a container has in its file system."""

from __future__ import annotations

from orlop.cli.archive import write_archive
from orlop.cli.options import CONTAINER, FILE, Command, flag, operand, text, texts
from orlop.client.images import split_tag
from orlop.model.plain import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


_KINDS = ("C", "A", "D")  # the API's numbers: modified, added, deleted


class DiffCommand(Command):
    description = "Shows what a container has changed: A added, C changed, D deleted."

    container = operand("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print a line for each path."""
        for change in client.containers.changes(self.container):
            print(_KINDS[change["Kind"]], one_line(change["Path"]), file=out)
        return 0


class ExportCommand(Command):
    description = "Writes the file system of a container as a tar archive."
    examples = (("orlop export web | tar -t", "what is in it"),)

    output = text(
        "-o", "--output", metavar="FILE", help="write to FILE, not to stdout", completes=FILE
    )
    container = operand("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Write the archive."""
        write_archive(lambda: client.containers.export(self.container), self.output, out)
        return 0


class CommitCommand(Command):
    description = "Makes an image of a container's file system; prints its id."
    examples = (("orlop commit -c 'CMD [\"server\"]' work mine:1", "with another command"),)

    author = text("-a", "--author", metavar="NAME", help="author")
    message = text("-m", "--message", metavar="TEXT", help="commit message")
    change = texts("-c", "--change", metavar="LINE", help="a Dockerfile line: CMD, ENV, USER, …")
    pause = flag("-p", "--pause", default=True, help="pause it meanwhile (default: true)")
    container = operand("CONTAINER", completes=CONTAINER)
    reference = operand("NAME[:TAG]", optional=True)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Commit it and print the image's id."""
        repository, tag = split_tag(self.reference)
        query = {
            "repo": repository,
            "tag": tag,
            "author": self.author,
            "comment": self.message,
            "changes": self.change,
            "pause": "1" if self.pause else "0",
        }
        print(client.images.commit(self.container, query=query), file=out)
        return 0
