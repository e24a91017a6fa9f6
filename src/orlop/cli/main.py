"""From the words of a command line to a command, and from errors to lines and exit codes."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # not signal, which is slow to import
import sys

from orlop.cli import commands
from orlop.cli.options import FOLDER, Arguments, flag, operands, text
from orlop.cli.parser import HelpWanted, OperandsError, UsageError, parse, suggestion
from orlop.client.address import settings
from orlop.client.client import Client
from orlop.client.environ import variable
from orlop.errors import OrlopError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

USAGE, FAILURE, INTERRUPTED = 125, 1, 130


class Globals(Arguments):
    """The options before the command."""

    interspersed = False

    root = text(
        "--root", metavar="FOLDER", help="what survives a reboot (ORLOP_ROOT)", completes=FOLDER
    )
    run_folder = text(
        "--run", metavar="FOLDER", help="sockets and the like (ORLOP_RUN)", completes=FOLDER
    )
    host = text("-H", "--host", metavar="ADDRESS", help="an engine's socket (ORLOP_HOST)")
    debug = flag("-D", "--debug", help="show where an unexpected error came from")
    version = flag("-v", "--version", help="print the version")
    words = operands("COMMAND", optional=True)


def main(words: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run one command line; return its exit code. Never raises what a user could cause."""
    debug = bool(variable("ORLOP_DEBUG"))
    out, err = _guarded(out), _guarded(err)
    try:
        args = parse(Globals, words)
        debug = debug or args.debug
        code = _run(args, out, err)
        out.flush()
    except HelpWanted:
        return _overview(out, "")
    except UsageError as error:
        return _refuse(err, error, "orlop")
    except OrlopError as error:
        _say(err, str(error))
        return FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        _say(err, _unexpected(error))
        return FAILURE
    return code


def _run(args: Globals, out: TextIO, err: TextIO) -> int:
    if args.version:
        from orlop import __version__

        print(f"Orlop version {__version__}", file=out)
        return 0
    if not args.words:
        return _overview(out, "")
    words = [*args.words[1:], "--help"] if args.words[0] == "help" else args.words
    if words == ["--help"]:
        return _overview(out, "")
    try:
        name, place, rest = commands.find(words)
    except KeyError as error:
        return _unknown(err, str(error.args[0]))
    if not place:
        return _overview(out, name)
    command = commands.load(place)
    try:
        parsed = parse(command, rest)
    except HelpWanted:
        from orlop.cli.help import command_help

        out.write(command_help(name, command, summary=commands.summary(name)))
        return 0
    except UsageError as error:
        return _refuse(err, error, f"orlop {name}")
    chosen = settings(root=args.root or None, run=args.run_folder or None, host=args.host or None)
    with Client(chosen) as client:
        return parsed.run(client, out, err)


def _overview(out: TextIO, group: str) -> int:
    from orlop.cli.help import group_help, overview

    out.write(group_help(group) if group else overview(Globals))
    return 0


def _refuse(err: TextIO, error: UsageError, command: str) -> int:
    _say(err, str(error))
    print(f"See '{command} --help'.", file=err)
    return FAILURE if isinstance(error, OperandsError) else USAGE


def _unknown(err: TextIO, name: str) -> int:
    _say(err, f"{name!r} is not a command")
    hint = suggestion(name, dict.fromkeys(commands.names()))
    print(hint.capitalize() if hint else "See 'orlop --help'.", file=err)
    return FAILURE


def _unexpected(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror.lower()}"
    return f"internal error: {type(error).__name__}: {error} (ORLOP_DEBUG=1 shows where)"


def _say(err: TextIO, text: str) -> None:
    from orlop.cli.screen import say

    say(err, f"orlop: {text}")


def _guarded(stream: TextIO) -> TextIO:
    """Return *stream*, or what guards it where it is a terminal."""
    if not stream.isatty():
        return stream
    from orlop.cli.screen import Screen

    return Screen(stream)  # type: ignore[return-value]  # it has the part that commands use


def program() -> int:
    """Run this process's own command line."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)  # die quietly in `orlop … | head`, as others
    return main(sys.argv[1:], sys.stdout, sys.stderr)
