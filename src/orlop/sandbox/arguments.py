"""What callers give, checked before anything is started for it: InvalidArgumentError."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

from orlop.errors import InvalidArgumentError

_LONGEST_S = 1e9


def check_words(command: object) -> None:
    """A command is a list of texts."""
    if isinstance(command, (str, bytes)) or not isinstance(command, Sequence) or not command:
        raise InvalidArgumentError("a command is a list of words", hint='["sh", "-c", "…"]')
    check_texts("command", command)


def check_list(name: str, given: object) -> None:
    """The argument *name* is a list of texts, and not one of them alone."""
    if isinstance(given, (str, bytes)):
        raise InvalidArgumentError(f"{name} is one text", hint=f"a list of them: [{given!r}]")
    if not isinstance(given, Iterable):
        raise InvalidArgumentError(f"{name} is no list: {given!r}")
    check_texts(name, given)


def check_texts(name: str, given: Iterable[object]) -> None:
    for number, one in enumerate(given):
        if not isinstance(one, str):
            raise InvalidArgumentError(f"{name}[{number}] is no text: {one!r}")


def check_text(name: str, given: object) -> None:
    if not isinstance(given, str):
        raise InvalidArgumentError(f"{name} is no text: {given!r}")


def check_variables(environment: object) -> None:
    """Names and values are texts, and a name is one."""
    if not isinstance(environment, Mapping):
        raise InvalidArgumentError(f"environment is no mapping: {environment!r}")
    for name, value in environment.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise InvalidArgumentError(f"invalid name of a variable: {name!r}")
        if not isinstance(value, str):
            raise InvalidArgumentError(f"environment[{name!r}] is no text: {value!r}")


def check_seconds(name: str, given: object) -> None:
    """None, for no limit, or more than 0."""
    if given is None:
        return
    if not isinstance(given, (int, float)) or isinstance(given, bool) or not 0 < given < _LONGEST_S:
        raise InvalidArgumentError(
            f"invalid {name} {given!r}", hint="seconds, above 0; None for no limit"
        )


def check_output_limit(given: object) -> None:
    """So many bytes of each stream are kept."""
    if not is_count(given, least=0):
        raise InvalidArgumentError(f"invalid output_limit {given!r}", hint="bytes, 0 for none")


def check_limit(given: object) -> None:
    """So many bytes are taken from a sandbox; None for any number."""
    if given is not None and not is_count(given, least=0):
        raise InvalidArgumentError(f"invalid limit {given!r}", hint="bytes, or None for no limit")


def check_input(given: object) -> None:
    if not isinstance(given, (bytes, bytearray, memoryview)):
        hint = "encode it" if isinstance(given, str) else None
        raise InvalidArgumentError(f"input is bytes, not {type(given).__name__}", hint=hint)


def is_count(given: object, *, least: int = 1) -> TypeGuard[int]:
    """Whether it is a whole number, *least* or more."""
    return isinstance(given, int) and not isinstance(given, bool) and given >= least


def user_text(user: str | int) -> str:
    """Return the name or the id of a user as a text."""
    if is_count(user, least=0):
        return str(user)
    check_text("user", user)
    return str(user)
