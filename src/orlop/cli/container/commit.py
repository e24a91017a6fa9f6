"""orlop commit."""

from __future__ import annotations

from orlop.cli.options import CONTAINER, Arguments, flag, operand, text, texts
from orlop.client.images import split_tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Makes an image of a container's file system; prints its id."
    examples = (("orlop commit -c 'CMD [\"server\"]' work mine:1", "with another command"),)

    author = text("-a", "--author", metavar="NAME", help="who made it")
    message = text("-m", "--message", metavar="TEXT", help="a line for its history")
    change = texts("-c", "--change", metavar="LINE", help="a Dockerfile line: CMD, ENV, USER, …")
    pause = flag("-p", "--pause", default=True, help="freeze it meanwhile (default: true)")
    container = operand("CONTAINER", completes=CONTAINER)
    reference = operand("NAME[:TAG]", optional=True)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Commit it and print the image's id."""
    repository, tag = split_tag(args.reference)
    query = {
        "repo": repository,
        "tag": tag,
        "author": args.author,
        "comment": args.message,
        "changes": args.change,
        "pause": "1" if args.pause else "0",
    }
    print(client.images.commit(args.container, query=query), file=out)
    return 0
