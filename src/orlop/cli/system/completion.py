"""orlop completion: a script for a shell, made of the same tables as parsing and help."""

from __future__ import annotations

import argparse

from orlop.cli import commands
from orlop.cli.options import Arguments, Command, Option, operand, options_of
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client

#: What is asked of the engine for each kind of name.
_QUERIES = {
    "container": "orlop ps -a --format '{{.Names}}'",
    "image": "orlop images --format '{{.Repository}}:{{.Tag}}'",
    "volume": "orlop volume ls -q",
    "network": "orlop network ls --format '{{.Name}}'",
}
#: shtab completes an option whose `complete` names, per shell, a function of the preamble.
_FUNCTIONS = {kind: {"bash": f"_orlop_{kind}", "zsh": f"_orlop_{kind}"} for kind in _QUERIES}


class CompletionCommand(Command):
    description = "Writes a completion script for bash, zsh, tcsh or fish."
    examples = (
        ("source <(orlop completion bash)", "in this shell"),
        ("orlop completion zsh > ~/.zfunc/_orlop", "for good"),
    )

    shell = operand("SHELL")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Write the script."""
        import shtab

        if self.shell not in shtab.SUPPORTED_SHELLS:
            raise InvalidArgumentError(
                f"no completion for {self.shell!r}",
                hint=f"one of {', '.join(shtab.SUPPORTED_SHELLS)}",
            )
        script = shtab.complete(
            parser(), shell=self.shell, preamble=_preamble().get(self.shell, "")
        )
        print(script, file=out)
        return 0


def parser() -> argparse.ArgumentParser:
    """Return an argparse parser that accepts what our own accepts, for tools that read those."""
    from orlop.cli.main import Globals

    top = argparse.ArgumentParser(prog="orlop", description="Run containers from images.")
    _declare(top, Globals, operands_too=False)
    below = top.add_subparsers()
    for table in commands.HEADINGS.values():
        _add_all(below, table)
    for group, (summary, table) in commands.GROUPS.items():
        inner = below.add_parser(group, help=summary, description=summary)
        _add_all(inner.add_subparsers(), table)
    return top


def _add_all(below: Any, table: dict[str, tuple[str, str]]) -> None:
    for name, (place, summary) in table.items():
        command = below.add_parser(name, help=summary, description=summary)
        _declare(command, commands.load(place), operands_too=True)


def _declare(
    made: argparse.ArgumentParser, arguments: type[Arguments], *, operands_too: bool
) -> None:
    for attribute, option in options_of(arguments):
        if option.names:
            names = [name for name in option.names if name != "-h"]  # argparse has its own
            action = made.add_argument(*names, dest=attribute, **_how(option))
        elif operands_too:
            action = made.add_argument(attribute, metavar=option.metavar, nargs=_count(option))
        else:
            continue
        _complete(action, option)


def _how(option: Option) -> dict[str, Any]:
    text = option.help.replace("%", "%%")
    if not option.takes_value:
        return {"action": "store_true", "help": text}
    how: dict[str, Any] = {"metavar": option.metavar or "VALUE", "help": text}
    if option.alone:
        how["nargs"] = "?"
    return {**how, "choices": option.choices} if option.choices else how


def _count(option: Option) -> str | None:
    if option.many:
        return "*" if option.optional else "+"
    return "?" if option.optional else None


def _complete(action: Any, option: Option) -> None:
    import shtab

    known = {"file": shtab.FILE, "folder": shtab.DIRECTORY, **_FUNCTIONS}
    if option.completes:
        action.complete = known[option.completes]


def _preamble() -> dict[str, str]:
    bash = "".join(
        f'_orlop_{kind}() {{\n  compgen -W "$({query} 2>/dev/null)" -- "$1"\n}}\n'
        for kind, query in _QUERIES.items()
    )
    zsh = "".join(
        f'_orlop_{kind}() {{\n  local -a names\n  names=(${{(f)"$({query} 2>/dev/null)"}})\n'
        f"  names=(${{names//:/\\\\:}})\n  _describe {kind} names\n}}\n"
        for kind, query in _QUERIES.items()
    )
    return {"bash": bash, "zsh": zsh}
