"""orlop stop, restart, kill, pause, unpause, wait, rename, rm, and container prune."""

from __future__ import annotations

from orlop.cli.each import confirmed, each
from orlop.cli.options import CONTAINER, Command, flag, number, operand, operands, text, texts
from orlop.cli.output.listing import parse_filters
from orlop.cli.output.units import size
from orlop.cli.screen import say
from orlop.errors import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class StopCommand(Command):
    description = (
        "Asks containers to stop with a signal, and kills them if they have not after a while."
    )

    signal = text("-s", "--signal", metavar="SIGNAL", help="instead of the container's own signal")
    timeout_s = number(
        "-t", "--time", "--timeout", metavar="S", help="seconds before SIGKILL (default: 10)"
    )
    names = operands("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Stop each; 1 if any could not be."""
        containers = client.containers

        def act(name: str) -> None:
            containers.stop(name, timeout_s=self.timeout_s, signal=self.signal or None)

        return each(self.names, act, out=out, err=err)


class RestartCommand(StopCommand):
    description = "Stops containers, then starts them again."

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Restart each; 1 if any could not be."""
        containers = client.containers

        def act(name: str) -> None:
            containers.restart(name, timeout_s=self.timeout_s, signal=self.signal or None)

        return each(self.names, act, out=out, err=err)


class KillCommand(Command):
    description = "Sends a signal to the main process of running containers."

    signal = text(
        "-s", "--signal", metavar="SIGNAL", default="KILL", help="name or number (default: KILL)"
    )
    names = operands("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Signal each; 1 if any could not be."""
        containers = client.containers

        def act(name: str) -> None:
            containers.kill(name, signal=self.signal)

        return each(self.names, act, out=out, err=err)


class PauseCommand(Command):
    description = "Freezes all processes of containers until unpause."

    names = operands("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Pause each; 1 if any could not be."""
        containers = client.containers
        return each(self.names, containers.pause, out=out, err=err)


class UnpauseCommand(Command):
    description = "Lets the processes of frozen containers go on."

    names = operands("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Unpause each; 1 if any could not be."""
        containers = client.containers
        return each(self.names, containers.unpause, out=out, err=err)


class WaitCommand(Command):
    description = "Blocks until containers stop; prints the exit code of each."

    names = operands("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Wait for each in turn; 1 if any could not be waited for."""

        def act(name: str) -> None:
            status, _ = client.containers.wait(name).exit_status()
            print(status, file=out, flush=True)

        return each(self.names, act, out=None, err=err)


class RenameCommand(Command):
    description = "Gives a container another name."

    container = operand("CONTAINER", completes=CONTAINER)
    new_name = operand("NEW_NAME")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Rename it."""
        client.containers.rename(self.container, to=self.new_name)
        return 0


class RmCommand(Command):
    description = "Removes containers, with their file systems and logs."

    force = flag("-f", "--force", help="kill it if it is running; ignore a missing one")
    volumes = flag("-v", "--volumes", help="remove its anonymous volumes too")
    link = flag("-l", "--link", help="remove the link CONTAINER/ALIAS, and no container")
    names = operands("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Remove each; 1 if any could not be."""
        containers = client.containers

        def act(name: str) -> bool:
            try:
                containers.remove(name, force=self.force, volumes=self.volumes, link=self.link)
            except NotFoundError as error:
                if not self.force:
                    raise
                say(err, f"orlop: {error}")
                return False
            return True

        return each(self.names, act, out=out, err=err)


class ContainerPruneCommand(Command):
    description = "Removes all containers that do not run."

    force = flag("-f", "--force", help="do not ask")
    filters = texts("--filter", metavar="KEY=VALUE", help="until=24h, label=…")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Remove them and print their ids."""
        filters = parse_filters(self.filters)
        if not self.force and not confirmed("This will remove all stopped containers.", out):
            return 0
        answer = client.containers.prune(filters=filters)
        removed = answer.get("ContainersDeleted") or []
        if removed:
            print("Deleted Containers:", *removed, "", sep="\n", file=out)
        print(f"Total reclaimed space: {size(answer.get('SpaceReclaimed') or 0)}", file=out)
        return 0
