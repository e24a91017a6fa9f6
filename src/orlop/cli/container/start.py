"""orlop start."""

from __future__ import annotations

from orlop.cli import signals
from orlop.cli.container import attached
from orlop.cli.each import each
from orlop.cli.options import CONTAINER, Command, flag, operands, text
from orlop.errors import InvalidArgumentError, OrlopError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class StartCommand(Command):
    description = "Starts containers that were created or have stopped."
    examples = (("orlop start -ai work", "go on in a stopped container's shell"),)

    attach = flag("-a", "--attach", help="show its output, forward signals")
    interactive = flag("-i", "--interactive", help="connect this terminal's input")
    detach_keys = text(
        "--detach-keys", metavar="KEYS", help="keys that detach (default: ctrl-p,ctrl-q)"
    )
    sig_proxy = flag("--sig-proxy", help="forward signals to it (default: true)", default=True)
    names = operands("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Start each; attached to one, return its exit code."""
        if not (self.attach or self.interactive):

            def act(name: str) -> None:
                client.containers.start(name, detach_keys=self.detach_keys or None)

            return each(self.names, act, out=out, err=err)
        if len(self.names) > 1:
            raise InvalidArgumentError("only one container can be started attached")
        return _attached(self, client, err)


def _attached(args: StartCommand, client: Client, err: TextIO) -> int:
    containers = client.containers
    found = containers.inspect(args.names[0])
    identifier, config = str(found["Id"]), found["Config"]
    tty, stdin = bool(config["Tty"]), bool(args.interactive and config["OpenStdin"])
    attached.check_terminal(tty=tty, stdin=stdin)
    keys = attached.detach_keys(args.detach_keys)
    removed = bool(found["HostConfig"].get("AutoRemove"))
    streams = ("stdin", "stdout", "stderr") if stdin else ("stdout", "stderr")

    def resize(height: int, width: int) -> None:
        containers.resize(identifier, height=height, width=width)

    deliver = attached.forwarder(client, identifier)
    with signals.Forwarding(deliver, enabled=args.sig_proxy) as forwarding:
        attaching = containers.attach(identifier, streams=streams, detach_keys=args.detach_keys)
        waiting = containers.wait(identifier, condition="removed" if removed else "next-exit")
        stream = attaching.stream()
        waiting.accepted()
        try:
            containers.start(identifier)
        except OrlopError:
            stream.close()
            waiting.close()
            raise
        forwarding.start()
        detached, _ = attached.converse(stream, stdin=stdin, tty=tty, keys=keys, resize=resize)
        if detached:
            waiting.close()
            print(attached.DETACHED_NOTE, end="", file=err)
            return 0
        return attached.exit_status(client, waiting, identifier)[0]
