"""orlop run: create, attach, start, wait. The order keeps every byte and every exit status:

create --> attach + wait (both at once) --> start --> streams until their end --> exit status"""

from __future__ import annotations

from orlop.cli import signals
from orlop.cli.container import attached
from orlop.cli.container.body import streams_of
from orlop.cli.container.flags import ContainerArguments
from orlop.cli.container.making import create
from orlop.cli.options import file_or_alone, flag, text
from orlop.errors import InvalidArgumentError, OrlopError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class RunCommand(ContainerArguments):
    description = (
        "Creates a container and runs a command in it, attached to this terminal unless -d is\n"
        "given. Exits with the command's own exit code; 125 if the engine failed, 126 if the\n"
        "command cannot be executed, 127 if it cannot be found."
    )
    examples = (
        ("orlop run --rm host python3 -c 'print(1)'", "use this machine's tools, isolated"),
        ("orlop run -it --rm debian bash", "a shell"),
        ("orlop run -d --name web -m 256m --restart always nginx", "in the background"),
        ("orlop run --rm -v ./src:/src:ro -w /src alpine ls", "with a folder of the host"),
    )

    detach = flag("-d", "--detach", help="run in the background, print the id")
    sig_proxy = flag("--sig-proxy", help="forward signals to it (default: true)", default=True)
    detach_keys = text(
        "--detach-keys", metavar="KEYS", help="keys that detach (default: ctrl-p,ctrl-q)"
    )
    timeline = file_or_alone(
        "--timeline",
        ending=".json",
        alone="-",
        help="show on stderr where the time went; FILE.json is a trace for Perfetto",
    )

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Run a container; return its exit code, or 125 to 127 as Docker does."""
        if self.timeline:
            from orlop.cli.container.timeline import timed  # rare

            def watched(watch: Client) -> int:
                code = _run(self, watch, out, err)
                out.flush()  # what is shown comes after
                return code

            return timed(self.timeline, client, err, watched)
        return _run(self, client, out, err)


def _run(args: RunCommand, client: Client, out: TextIO, err: TextIO) -> int:
    try:
        if args.detach:
            return _run_detached(args, client, out, err)
        return _run_attached(args, client, out, err)
    except OrlopError as error:
        attached.say(err, error)
        return attached.ENGINE_FAILED


def _run_detached(args: RunCommand, client: Client, out: TextIO, err: TextIO) -> int:
    if args.attach:
        raise InvalidArgumentError("conflicting options: -a and -d")
    identifier = create(args, client, err, attached=False)
    try:
        client.containers.start(identifier)
    except OrlopError as error:
        attached.say(err, error)
        return error.exit_code
    print(identifier, file=out)
    return 0


def _run_attached(args: RunCommand, client: Client, out: TextIO, err: TextIO) -> int:
    streams = streams_of(args, attached=True)
    stdin = args.interactive and "stdin" in streams
    attached.check_terminal(tty=args.tty, stdin=stdin)
    keys = attached.detach_keys(args.detach_keys)
    identifier = create(args, client, err, attached=True)
    containers = client.containers
    condition = "removed" if args.rm else "next-exit"
    deliver = attached.forwarder(client, identifier)
    with signals.Forwarding(deliver, enabled=args.sig_proxy) as forwarding:
        attaching = containers.attach(identifier, streams=streams, detach_keys=args.detach_keys)
        waiting = containers.wait(identifier, condition=condition)
        stream = attaching.stream()
        waiting.accepted()
        try:
            containers.start(identifier, detach_keys=args.detach_keys)
        except OrlopError as error:
            stream.close()
            waiting.close()
            attached.say(err, error)
            return error.exit_code
        forwarding.start()

        def resize(height: int, width: int) -> None:
            containers.resize(identifier, height=height, width=width)

        detached, _ = attached.converse(stream, stdin=stdin, tty=args.tty, keys=keys, resize=resize)
        if detached:
            waiting.close()
            print(attached.DETACHED_NOTE, end="", file=err)
            return 0
        status, problem = attached.exit_status(client, waiting, identifier)
    if problem:
        attached.say(err, problem)
    return status


class CreateCommand(ContainerArguments):
    description = "Creates a container without starting it, and prints its id."
    examples = (("orlop start -a $(orlop create alpine echo hello)", "start it later"),)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Create the container and print its id."""
        print(create(self, client, err, attached=True), file=out)
        return 0
