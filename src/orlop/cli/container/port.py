"""orlop port."""

from __future__ import annotations

from orlop.cli.options import CONTAINER, Arguments, operand
from orlop.errors import InvalidArgumentError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Shows where the ports of a container are published."
    examples = (("orlop port web 80", "the address and port of its port 80"),)

    container = operand("CONTAINER", completes=CONTAINER)
    port = operand("PORT[/PROTOCOL]", optional=True)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Print a line for each address; NotFoundError for a port that has none."""
    found = client.containers.inspect(args.container)
    ports = (found.get("NetworkSettings") or {}).get("Ports") or {}
    number, _, protocol = args.port.partition("/")
    if args.port and not number.isdecimal():
        raise InvalidArgumentError(f"invalid port ({number}): expected a number")
    wanted = f"{number}/{protocol or 'tcp'}"
    if args.port and not ports.get(wanted):
        raise NotFoundError(f"no public port '{args.port}' published for {args.container}")
    for port in sorted(ports, key=_order):
        for place in ports[port] or ():
            if not args.port:
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
