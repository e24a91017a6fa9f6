"""orlop attach."""

from __future__ import annotations

from orlop.cli import signals
from orlop.cli.container import attached
from orlop.cli.options import CONTAINER, Command, flag, operand, text
from orlop.errors import NotRunningError, WrongStateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class AttachCommand(Command):
    description = (
        "Connects this terminal with a running container's main process. ctrl-p ctrl-q leaves\n"
        "it running, if it has a terminal."
    )

    no_stdin = flag("--no-stdin", help="do not connect stdin")
    sig_proxy = flag("--sig-proxy", help="forward signals to it (default: true)", default=True)
    detach_keys = text(
        "--detach-keys", metavar="KEYS", help="keys that detach (default: ctrl-p,ctrl-q)"
    )
    container = operand("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Attach until the container ends or the user detaches; return its exit code."""
        containers = client.containers
        found = containers.inspect(self.container)
        identifier, config = str(found["Id"]), found["Config"]
        _check_running(found)
        tty, stdin = bool(config["Tty"]), bool(config["OpenStdin"] and not self.no_stdin)
        attached.check_terminal(tty=tty, stdin=stdin)
        keys = attached.detach_keys(self.detach_keys)
        streams = ("stdin", "stdout", "stderr") if stdin else ("stdout", "stderr")

        sizes: list[tuple[int, int]] = []

        def resize(height: int, width: int) -> None:
            if not sizes:  # a program draws its screen anew when the size is another
                containers.resize(identifier, height=height + 1, width=width)
            sizes.append((height, width))
            containers.resize(identifier, height=height, width=width)

        deliver = attached.forwarder(client, identifier)
        with signals.Forwarding(deliver, enabled=self.sig_proxy and not tty) as forwarding:
            waiting = containers.wait(identifier)
            attaching = containers.attach(identifier, streams=streams, detach_keys=self.detach_keys)
            stream = attaching.stream()
            waiting.accepted()
            forwarding.start()
            detached, _ = attached.converse(stream, stdin=stdin, tty=tty, keys=keys, resize=resize)
            if detached:
                waiting.close()
                print(attached.DETACHED_NOTE, end="", file=err)
                return 0
            return attached.exit_status(client, waiting, identifier)[0]


def _check_running(found: dict[str, Any]) -> None:
    state, name = found["State"], str(found["Name"]).lstrip("/")
    if state.get("Paused"):
        raise WrongStateError(f"container {name} is paused", hint="unpause it first")
    if state.get("Restarting"):
        raise WrongStateError(f"container {name} is restarting", hint="wait until it runs")
    if not state.get("Running"):
        raise NotRunningError(f"container {name} is not running", hint="start it first")
