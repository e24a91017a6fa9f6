"""From words of a command line to an Arguments value, as Docker's commands read them.

--name value, --name=value, -n value, -nvalue, -n=value, -itd together, -- ends the
options. argparse would do, but costs more than everything else that `orlop run`
does before it talks to the engine: docs/decisions/cli-start.md.
"""

from __future__ import annotations

from orlop.cli.options import Arguments, Option, options_of
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeVar

    A = TypeVar("A", bound=Arguments)

_TRUE = ("true", "1", "t", "T", "TRUE", "True")
_FALSE = ("false", "0", "f", "F", "FALSE", "False")


class UsageError(InvalidArgumentError):
    """The line does not say what the command understands."""


class OperandsError(UsageError):
    """Too few or too many words that are no options; Docker exits with 1, not 125, for these."""


class HelpWanted(Exception):  # noqa: N818 (no error)
    """--help was given."""


def parse(arguments: type[A], words: Sequence[str], *, one_dash: bool = False) -> A:
    """Return an *arguments* value filled from *words*.

    With *one_dash*, -name is --name too, as it is for programs in Go.

    Raises UsageError, naming the word, or HelpWanted.
    """
    line = _Line(arguments, words, one_dash=one_dash)
    line.read()
    return line.args  # type: ignore[return-value]  # made of the class that was given


class _Line:
    """One line being read: what is left of it, and what it has said so far."""

    def __init__(self, arguments: type[Arguments], words: Sequence[str], *, one_dash: bool) -> None:
        self.args = arguments()
        self._one_dash = one_dash
        self._rest = list(words)
        self._rest.reverse()
        self._named: dict[str, tuple[str, Option]] = {}
        self._operands: list[tuple[str, Option]] = []
        for attribute, option in options_of(arguments):
            setattr(self.args, attribute, [] if option.many else option.default)
            for name in option.names:
                self._named[name] = attribute, option
            if not option.names:
                self._operands.append((attribute, option))

    def read(self) -> None:
        """Read all words."""
        found: list[str] = []
        while self._rest:
            word = self._rest.pop()
            if word == "--":
                found += reversed(self._rest)
                break
            if word.startswith("--"):
                self._long(word)
            elif self._one_dash and f"-{word}".partition("=")[0] in self._named:
                self._long(f"-{word}")
            elif word.startswith("-") and len(word) > 1:
                self._short(word)
            else:
                found.append(word)
                if not self.args.interspersed:
                    found += reversed(self._rest)
                    break
        self._place(found)

    def _long(self, word: str) -> None:
        name, equals, value = word.partition("=")
        if name == "--help" and name not in self._named:
            raise HelpWanted
        if name not in self._named:
            raise UsageError(f"unknown flag: {name}", hint=suggestion(name, self._named))
        attribute, option = self._named[name]
        if not option.takes_value:
            setattr(self.args, attribute, _boolean(name, value) if equals else True)
        else:
            self._store(name, value if equals else self._behind(name, option))

    def _behind(self, name: str, option: Option) -> str:
        """Return the value that is the next word; of an option that stands alone, what it means."""
        if not option.alone:
            return self._next(name)
        following = self._rest[-1] if self._rest else ""
        is_value = following == "-" or following.endswith(option.ending)
        return self._rest.pop() if is_value else option.alone

    def _short(self, word: str) -> None:
        for position, letter in enumerate(word[1:], start=1):
            name = f"-{letter}"
            if name not in self._named:
                if name == "-h":
                    raise HelpWanted
                raise UsageError(f"unknown shorthand flag: {letter!r} in {word}")
            attribute, option = self._named[name]
            rest = word[position + 1 :]
            if option.takes_value:
                self._store(name, rest.removeprefix("=") if rest else self._next(name))
                return
            if rest.startswith("="):
                setattr(self.args, attribute, _boolean(name, rest[1:]))
                return
            setattr(self.args, attribute, True)

    def _next(self, name: str) -> str:
        if not self._rest:
            raise UsageError(f"flag needs an argument: {name}")
        return self._rest.pop()

    def _store(self, name: str, value: str) -> None:
        attribute, option = self._named[name]
        if option.choices and value not in option.choices:
            raise UsageError(
                f"invalid value {value!r} for {name}", hint=f"one of {', '.join(option.choices)}"
            )
        if option.many:
            getattr(self.args, attribute).append(value)
            return
        setattr(self.args, attribute, _converted(name, option, value))

    def _place(self, found: list[str]) -> None:
        """Give the words that are no options to the operands, in order."""
        position = 0
        for attribute, option in self._operands:
            if not option.optional and position >= len(found):
                raise OperandsError(f"missing argument: {option.metavar}")
            if option.many:
                setattr(self.args, attribute, found[position:])
                return
            if position < len(found):
                setattr(self.args, attribute, found[position])
            position += 1
        if position < len(found):
            raise OperandsError(f"unexpected argument: {found[position]}")


def _converted(name: str, option: Option, value: str) -> object:
    if option.convert is None:
        return value
    try:
        return option.convert(value)
    except ValueError as error:
        raise UsageError(f"invalid value {value!r} for {name}: {error}") from None


def _boolean(name: str, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise UsageError(f"invalid value {value!r} for {name}: expected true or false")


def suggestion(word: str, known: Mapping[str, object]) -> str | None:
    """Return a hint with the *known* word that is most like *word*; None if none is."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else None
