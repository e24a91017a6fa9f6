"""How a command says which arguments it takes: once, as the attributes of a class.

    class RmCommand(Command):
        force = flag("-f", "--force", help="remove it even if it runs")
        names = operands("CONTAINER")

        def run(self, client: Client, out: TextIO, err: TextIO) -> int: …

Parsing, --help and shell completion all read this class, and the type checker
too: each function below claims to return what parsing will put there.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TextIO

    from orlop.client.client import Client

#: What completion offers for a value.
CONTAINER, IMAGE, VOLUME, NETWORK = "container", "image", "volume", "network"
FILE, FOLDER = "file", "folder"


class Option:
    """One option or operand. What *kind* of thing follows decides how it is parsed."""

    __slots__ = (
        "alone",
        "choices",
        "completes",
        "convert",
        "default",
        "ending",
        "group",
        "help",
        "many",
        "metavar",
        "names",
        "optional",
        "takes_value",
    )

    def __init__(self, names: tuple[str, ...], help_text: str) -> None:
        self.names = names  # () for an operand
        self.help = help_text
        self.metavar = ""
        self.group = ""
        self.default: Any = None
        self.many = False
        self.takes_value = True
        self.optional = False  # an operand that may be left out
        self.convert: Callable[[str], Any] | None = None
        self.choices: tuple[str, ...] = ()
        self.completes = ""
        self.alone = ""  # what the option means without a value, if it may be without one
        self.ending = ""  # of a word behind it that is its value then


class Arguments:
    """What was given on the command line. A subclass's attributes say what can be."""

    #: Whether options may follow operands; not where operands are another command's line.
    interspersed = True
    #: For --help, below the summary, and examples as (command, what it does).
    description = ""
    examples: tuple[tuple[str, str], ...] = ()


class Command(Arguments):
    """A command: its arguments, and what it does with them."""

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Do it, and return the exit code."""
        raise NotImplementedError


def options_of(arguments: type[Arguments]) -> Iterator[tuple[str, Option]]:
    """Yield (attribute, option) in the order of declaration, those of base classes last."""
    for owner in arguments.__mro__:
        for name, value in vars(owner).items():
            if type(value) is Option:
                yield name, value


# Each returns an Option and says it returns a value, so that `args.force` is a bool.


def flag(*names: str, help: str, group: str = "", default: bool = False) -> bool:  # noqa: A002
    """Declare an option that is there or not; --name=false takes it back, as in Docker."""
    made = Option(names, help)
    made.takes_value, made.default, made.group = False, default, group
    return made  # type: ignore[return-value]  # what parsing puts there


def text(
    *names: str,
    help: str,  # noqa: A002
    metavar: str = "",
    default: str = "",
    group: str = "",
    choices: tuple[str, ...] = (),
    completes: str = "",
) -> str:
    """Declare an option with one value; the last one given counts."""
    made = Option(names, help)
    made.metavar, made.default, made.group = metavar, default, group
    made.choices, made.completes = choices, completes
    return made  # type: ignore[return-value]  # what parsing puts there


def maybe_text(*names: str, help: str, metavar: str = "", group: str = "") -> str | None:  # noqa: A002
    """Declare an option where given-as-empty differs from not given (None)."""
    made = Option(names, help)
    made.metavar, made.group = metavar, group
    return made  # type: ignore[return-value]  # what parsing puts there


def file_or_alone(*names: str, help: str, ending: str, alone: str, group: str = "") -> str:  # noqa: A002
    """Declare an option that may stand alone; a word behind it is its value if it is - or a
    name with that *ending*, else the value has to follow "="."""
    made = Option(names, help)
    made.metavar, made.group, made.completes = "FILE", group, FILE
    made.default, made.alone, made.ending = "", alone, ending
    return made  # type: ignore[return-value]  # what parsing puts there


def texts(
    *names: str,
    help: str,  # noqa: A002
    metavar: str = "",
    group: str = "",
    completes: str = "",
) -> list[str]:
    """Declare an option that may be given several times."""
    made = Option(names, help)
    made.metavar, made.group, made.many, made.completes = metavar, group, True, completes
    return made  # type: ignore[return-value]  # what parsing puts there


def number(
    *names: str,
    help: str,  # noqa: A002
    metavar: str = "N",
    group: str = "",
    convert: Callable[[str], int] | None = None,
) -> int | None:
    """Declare an option with a whole number, or what *convert* makes one of (sizes, times)."""
    made = Option(names, help)
    made.metavar, made.group = metavar, group
    made.convert = convert or _whole
    return made  # type: ignore[return-value]  # what parsing puts there


def operand(metavar: str, *, help: str = "", optional: bool = False, completes: str = "") -> str:  # noqa: A002
    """Declare one argument without a dash; "" where an optional one is left out."""
    made = Option((), help)
    made.metavar, made.optional, made.default = metavar, optional, ""
    made.completes = completes
    return made  # type: ignore[return-value]  # what parsing puts there


def operands(
    metavar: str,
    *,
    help: str = "",  # noqa: A002
    optional: bool = False,
    completes: str = "",
) -> list[str]:
    """Declare all remaining arguments without a dash; at least one unless *optional*."""
    made = Option((), help)
    made.metavar, made.optional, made.many = metavar, optional, True
    made.completes = completes
    return made  # type: ignore[return-value]  # what parsing puts there


def _whole(value: str) -> int:
    try:
        return int(value, 0)
    except ValueError:
        raise ValueError("expected a whole number") from None
