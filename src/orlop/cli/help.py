"""--help: usage, what it does, grouped options, examples. Read from the same tables as parsing."""

from __future__ import annotations

from orlop.cli import commands
from orlop.cli.options import Arguments, Option, options_of

_COLUMN = 34


def command_help(name: str, arguments: type[Arguments], *, summary: str) -> str:
    """Return a command's help."""
    declared = [option for _, option in options_of(arguments)]
    options = [option for option in declared if option.names]
    usage = [f"orlop {name}", *(["[OPTIONS]"] if options else [])]
    usage += [_operand(option) for option in declared if not option.names]
    parts = [f"Usage: {' '.join(usage)}\n", f"{arguments.description or summary + '.'}\n"]
    groups: dict[str, list[Option]] = {}
    for option in options:
        groups.setdefault(option.group, []).append(option)
    for heading in sorted(groups, key=bool):  # those without a group first
        rows = "".join(_row(option) for option in groups[heading])
        parts.append(f"{heading or 'Options'}:\n{rows}")
    if arguments.examples:
        rows = "".join(f"  {line}\n      {meaning}\n" for line, meaning in arguments.examples)
        parts.append(f"Examples:\n{rows}")
    return "\n".join(parts)


def _operand(option: Option) -> str:
    shown = f"{option.metavar}..." if option.many else option.metavar
    return f"[{shown}]" if option.optional else shown


def _row(option: Option) -> str:
    short = next((name for name in option.names if len(name) == 2), "")
    longs = [name for name in option.names if len(name) > 2]
    left = f"  {short + ', ' if short and longs else short or '    '}{', '.join(longs)}"
    if option.takes_value:
        value = option.metavar or "VALUE"
        left += f" [{value}]" if option.alone else f" {value}"
    gap = " " * max(2, _COLUMN - len(left))
    if len(left) >= _COLUMN:
        gap = "\n" + " " * _COLUMN
    return f"{left}{gap}{option.help}\n"


def group_help(group: str) -> str:
    """Return the help of a group of commands."""
    text, table = commands.GROUPS[group]
    return f"Usage: orlop {group} COMMAND\n\n{text}\n\nCommands:\n{_list(table)}"


def overview(options: type[Arguments]) -> str:
    """Return the help of orlop itself."""
    parts = [
        "Usage: orlop [OPTIONS] COMMAND\n",
        "Run containers from images. `orlop run --rm -it host` is a sandbox of this machine.\n",
    ]
    for heading, table in commands.HEADINGS.items():
        parts.append(f"{heading}:\n{_list(table)}")
    groups = {name: ("", text) for name, (text, _) in commands.GROUPS.items()}
    parts.append(f"Groups:\n{_list(groups)}")
    rows = "".join(_row(option) for _, option in options_of(options) if option.names)
    parts.append(f"Options:\n{rows}")
    parts.append("'orlop COMMAND --help' tells more about each.\n")
    return "\n".join(parts)


def _list(table: dict[str, tuple[str, str]]) -> str:
    width = max(len(name) for name in table) + 2
    return "".join(f"  {name:{width}}{text}\n" for name, (_, text) in table.items())
