"""orlop network inspect."""

from __future__ import annotations

from orlop.cli.options import NETWORK, Arguments, flag, operands, text
from orlop.cli.system.inspect import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = (
        "Shows all that is known of networks, and who is on them, as JSON or as --format says."
    )
    examples = (
        ("orlop network inspect -f '{{range .Containers}}{{.Name}} {{end}}' web", "who is on it"),
    )

    form = text("-f", "--format", metavar="TEMPLATE", help="such as {{.Driver}}, or json")
    verbose = flag("-v", "--verbose", help="with what a swarm would know: nothing more")
    names = operands("NETWORK", completes=NETWORK)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Print them; 1 if any was not found."""

    def find(name: str) -> dict[str, Any]:
        return client.networks.inspect(name, verbose=args.verbose)

    return show(args.names, find, (out, err), form=args.form)
