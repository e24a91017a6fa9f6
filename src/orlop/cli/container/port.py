"""orlop port."""

from __future__ import annotations

from orlop.cli.options import CONTAINER, Arguments, operand
from orlop.errors import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Shows where the ports of a container are published."

    container = operand("CONTAINER", completes=CONTAINER)
    port = operand("PORT[/PROTOCOL]", optional=True)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Print a line for each address; NotFoundError for a port that has none."""
    found = client.containers.inspect(args.container)
    ports = (found.get("NetworkSettings") or {}).get("Ports") or {}
    wanted = args.port if "/" in args.port or not args.port else f"{args.port}/tcp"
    if wanted and not ports.get(wanted):
        raise NotFoundError(f"no public port {wanted} published for {args.container}")
    for port, addresses in sorted(ports.items()):
        for address in addresses or ():
            place = f"{address['HostIp']}:{address['HostPort']}"
            if not wanted:
                print(f"{port} -> {place}", file=out)
            elif port == wanted:
                print(place, file=out)
    return 0
