"""The output of --help and --version."""

from __future__ import annotations

import sys

from orlop import __version__
from orlop.cli.options import Arguments, options_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.cli.options import Option

SPECIFICATION = "1.3.0"


def version(name: str) -> str:
    return (
        f"{name} version {__version__}\nspec: {SPECIFICATION}\npython: {sys.version.split()[0]}\n"
    )


def overview(name: str, settings: type[Arguments], commands: dict[str, str]) -> str:
    """Describe the program."""
    width = max(map(len, commands))
    rows = "".join(f"   {command:{width}}  {text}\n" for command, text in commands.items())
    return (
        f"NAME:\n   {name} - Open Container Initiative runtime\n\n"
        f"USAGE:\n   {name} [global options] command [command options] [arguments...]\n\n"
        f"COMMANDS:\n{rows}\nGLOBAL OPTIONS:\n{_options(settings)}"
    )


def command(program: str, name: str, summary: str, arguments: type[Arguments]) -> str:
    """Describe one command."""
    operands = [option for _, option in options_of(arguments) if not option.names]
    words = " ".join(_operand(option) for option in operands)
    return (
        f"NAME:\n   {program} {name} - {summary}\n\n"
        f"USAGE:\n   {program} {name} [command options] {words}\n\n"
        f"OPTIONS:\n{_options(arguments)}"
    )


def _operand(option: Option) -> str:
    word = f"<{option.metavar}>" + ("..." if option.many else "")
    return f"[{word}]" if option.optional else word


def _options(arguments: type[Arguments]) -> str:
    rows = []
    for _, option in options_of(arguments):
        if option.names:
            value = f" {option.metavar or 'value'}" if option.takes_value else ""
            rows.append((", ".join(option.names) + value, option.help))
    width = max((len(names) for names, _ in rows), default=0)
    return "".join(f"   {names:{width}}  {text}\n" for names, text in rows)
