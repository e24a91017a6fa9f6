"""orlop update."""

from __future__ import annotations

from orlop.cli import values
from orlop.cli.container.resources import changeable, restart_policy
from orlop.cli.each import each
from orlop.cli.options import CONTAINER, Command, number, operands, text
from orlop.cli.screen import say
from orlop.errors import InvalidArgumentError
from orlop.model.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class UpdateCommand(Command):
    description = "Changes limits of containers in place, or their restart policy."
    examples = (("orlop update --memory 512m --memory-swap 512m --cpus 1.5 web", ""),)

    memory = number("-m", "--memory", metavar="SIZE", help="memory", convert=parse_size)
    memory_swap = number(
        "--memory-swap",
        metavar="SIZE",
        help="memory and swap together; -1 for no limit on swap",
        convert=values.size_or_unlimited,
    )
    memory_reservation = number(
        "--memory-reservation",
        metavar="SIZE",
        help="soft limit, for when memory is short",
        convert=parse_size,
    )
    cpus = number("--cpus", help="number of processors, such as 1.5", convert=values.cpus)
    cpu_shares = number("-c", "--cpu-shares", help="weight")
    cpu_period = number("--cpu-period", metavar="US", help="CFS period")
    cpu_quota = number("--cpu-quota", metavar="US", help="CFS quota")
    cpuset_cpus = text("--cpuset-cpus", metavar="LIST", help="processors to use: 0-2,5")
    cpuset_mems = text("--cpuset-mems", metavar="LIST", help="memory nodes to use")
    pids_limit = number("--pids-limit", help="processes; -1 for no limit")
    blkio_weight = number("--blkio-weight", help="10 to 1000")
    restart = text("--restart", metavar="POLICY", help="no, always, unless-stopped, on-failure[:N]")
    names = operands("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Update each; 1 if any could not be."""
        body = update_body(self)
        if not body:
            raise InvalidArgumentError("nothing to update", hint="name at least one limit")

        def act(name: str) -> None:
            for warning in client.containers.update(name, body):
                say(err, f"WARNING: {warning}")

        return each(self.names, act, out=out, err=err)


def update_body(args: UpdateCommand) -> dict[str, Any]:
    """Return what is to change, and nothing else."""
    given = changeable(args)
    if args.restart:
        try:
            given["RestartPolicy"] = restart_policy(args.restart)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from None
    return {name: value for name, value in given.items() if value is not None}
