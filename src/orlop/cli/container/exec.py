"""orlop exec: a further process in a running container."""

from __future__ import annotations

from orlop.cli.container import attached
from orlop.cli.container.environment import environment
from orlop.cli.options import CONTAINER, FILE, Command, flag, operand, operands, text, texts
from orlop.errors import InvalidArgumentError, OrlopError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class ExecCommand(Command):
    interspersed = False
    description = "Runs a command in a running container, and exits with its exit code."
    examples = (
        ("orlop exec -it web sh", "a shell beside what runs there"),
        ("orlop exec -u nobody -w /tmp web id", "as somebody else, somewhere else"),
    )

    interactive = flag("-i", "--interactive", help="keep its stdin open")
    tty = flag("-t", "--tty", help="give it a terminal")
    detach = flag("-d", "--detach", help="run in the background")
    env = texts("-e", "--env", metavar="KEY[=VALUE]", help="set a variable, or pass on your own")
    env_file = texts("--env-file", metavar="FILE", help="set the variables in FILE", completes=FILE)
    user = text("-u", "--user", metavar="USER[:GROUP]", help="user to run as, name or id")
    workdir = text("-w", "--workdir", metavar="FOLDER", help="working directory")
    privileged = flag("--privileged", help="give it all capabilities")
    detach_keys = text(
        "--detach-keys", metavar="KEYS", help="keys that detach (default: ctrl-p,ctrl-q)"
    )
    container = operand("CONTAINER", completes=CONTAINER)
    command = operands("COMMAND")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Run the process; return its exit code."""
        attached.check_terminal(tty=self.tty, stdin=self.interactive and not self.detach)
        keys = attached.detach_keys(self.detach_keys)
        if self.detach:
            return _run_detached(self, client, err)
        identifier, stream = client.execs.run(self.container, exec_body(self))

        def resize(height: int, width: int) -> None:
            client.execs.resize(identifier, height=height, width=width)

        detached, status = attached.converse(
            stream, stdin=self.interactive, tty=self.tty, keys=keys, resize=resize
        )
        if detached:
            print(attached.DETACHED_NOTE, end="", file=err)
            return 0
        if status is None:  # a terminal has no frames to tell it in
            return int(client.execs.inspect(identifier)["ExitCode"] or 0)
        return status


def _run_detached(args: ExecCommand, client: Client, err: TextIO) -> int:
    identifier = client.execs.create(args.container, exec_body(args))
    try:
        client.execs.start_detached(identifier, terminal=args.tty)
    except OrlopError as error:
        attached.say(err, error)
        return error.exit_code
    return 0


def exec_body(args: ExecCommand) -> dict[str, Any]:
    """Return the body of POST /containers/…/exec."""
    try:
        variables = environment(args.env, args.env_file)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidArgumentError(f"cannot read {error.filename}: {reason}") from None
    body = {
        "Cmd": args.command,
        "Env": variables,
        "User": args.user,
        "WorkingDir": args.workdir,
        "Privileged": args.privileged,
        "Tty": args.tty,
        "AttachStdin": args.interactive and not args.detach,
        "AttachStdout": not args.detach,
        "AttachStderr": not args.detach,
        "DetachKeys": args.detach_keys,
        "Detach": args.detach,
    }
    if args.tty:
        from orlop.cli.terminal import console_size

        body["ConsoleSize"] = console_size()
    return body
