"""orlop network inspect, rm and prune."""

from __future__ import annotations

from orlop.cli.each import confirmed, each
from orlop.cli.options import NETWORK, Command, flag, operands, text, texts
from orlop.cli.output.listing import parse_filters
from orlop.cli.system.inspect import show
from orlop.errors import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class NetworkInspectCommand(Command):
    description = (
        "Shows all that is known of networks, and who is on them, as JSON or as --format says."
    )
    examples = (
        ("orlop network inspect -f '{{range .Containers}}{{.Name}} {{end}}' web", "who is on it"),
    )

    form = text("-f", "--format", metavar="TEMPLATE", help="such as {{.Driver}}, or json")
    verbose = flag("-v", "--verbose", help="no effect without swarm")
    names = operands("NETWORK", completes=NETWORK)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print them; 1 if any was not found."""

        def find(name: str) -> dict[str, Any]:
            return client.networks.inspect(name, verbose=self.verbose)

        return show(self.names, find, (out, err), form=self.form)


class NetworkRmCommand(Command):
    description = "Removes networks; not those that a container is on."

    force = flag("-f", "--force", help="ignore a missing one")
    names = operands("NETWORK", completes=NETWORK)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Remove each; 1 if any could not be."""

        def act(name: str) -> bool:
            try:
                client.networks.remove(name)
            except NotFoundError:
                if not self.force:
                    raise
                return False
            return True

        return each(self.names, act, out=out, err=err)


class NetworkPruneCommand(Command):
    description = "Removes networks that no container uses; not bridge, host and none."

    force = flag("-f", "--force", help="do not ask")
    filters = texts("--filter", metavar="KEY=VALUE", help="until=24h, label=…")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Remove them and print their names."""
        filters = parse_filters(self.filters)
        question = "This will remove all networks that no container uses."
        if not self.force and not confirmed(question, out):
            return 0
        if removed := client.networks.prune(filters=filters):
            print("Deleted Networks:", *removed, "", sep="\n", file=out)
        return 0
