"""orlop container inspect, top and port: what is known of a container."""

from __future__ import annotations

from orlop.cli.options import CONTAINER, Command, flag, operand, operands, text
from orlop.cli.output.listing import write_table
from orlop.cli.system.inspect import show
from orlop.errors import InvalidArgumentError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class ContainerInspectCommand(Command):
    description = "Shows all that is known of containers, as JSON or as --format says."

    form = text("-f", "--format", metavar="TEMPLATE", help="such as {{.State.Pid}}, or json")
    size = flag("-s", "--size", help="show the sizes of its file system")
    names = operands("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print them; 1 if any was not found."""

        def find(name: str) -> dict[str, Any]:
            return client.containers.inspect(name, size=self.size)

        return show(self.names, find, (out, err), form=self.form)


class TopCommand(Command):
    interspersed = False
    description = "Shows the processes of a container, as ps shows them."
    examples = (("orlop top web -o pid,comm", "with ps's own options"),)

    container = operand("CONTAINER", completes=CONTAINER)
    ps_options = operands("PS_OPTIONS", optional=True)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print the table."""
        found = client.containers.top(self.container, ps_args=" ".join(self.ps_options) or None)
        write_table([found["Titles"], *(found["Processes"] or [])], out)
        return 0


class PortCommand(Command):
    description = "Shows where the ports of a container are published."
    examples = (("orlop port web 80", "the address and port of its port 80"),)

    container = operand("CONTAINER", completes=CONTAINER)
    port = operand("PORT[/PROTOCOL]", optional=True)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print a line for each address; NotFoundError for a port that has none."""
        found = client.containers.inspect(self.container)
        ports = (found.get("NetworkSettings") or {}).get("Ports") or {}
        number, _, protocol = self.port.partition("/")
        if self.port and not number.isdecimal():
            raise InvalidArgumentError(f"invalid port ({number}): expected a number")
        wanted = f"{number}/{protocol or 'tcp'}"
        if self.port and not ports.get(wanted):
            raise NotFoundError(f"no public port '{self.port}' published for {self.container}")
        for port in sorted(ports, key=_order):
            for place in ports[port] or ():
                if not self.port:
                    print(f"{port} -> {_address(place)}", file=out)
                elif port == wanted:
                    print(_address(place), file=out)
        return 0


def _order(port: str) -> tuple[int, str]:
    number, _, protocol = port.partition("/")
    return int(number), protocol


def _address(place: dict[str, str]) -> str:
    ip = place["HostIp"]
    return f"[{ip}]:{place['HostPort']}" if ":" in ip else f"{ip}:{place['HostPort']}"
