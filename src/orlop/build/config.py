"""What an instruction changes in an image's configuration, without any file."""

import json
import posixpath
from collections.abc import Callable, Mapping

import msgspec

from orlop.build.expand import expand, expand_words
from orlop.build.parse import Instruction
from orlop.images.changes import apply_instruction
from orlop.model.image import Process

#: Instructions that only change the configuration.
CHANGES = frozenset(
    [
        *("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL"),
        *("ONBUILD", "SHELL", "STOPSIGNAL", "USER", "VOLUME"),
    ]
)
_RAW = ("CMD", "ENTRYPOINT", "HEALTHCHECK", "ONBUILD", "SHELL")


class Scope:
    """The variables that an instruction sees: the stage's ARGs, and over them its ENV."""

    def __init__(self, arguments: Mapping[str, str], escape: str) -> None:
        self.arguments = dict(arguments)
        self.escape = escape

    def variables(self, process: Process) -> dict[str, str]:
        named = (entry.partition("=") for entry in process.env)
        return {**self.arguments, **{name: value for name, _, value in named}}

    def expander(self, process: Process) -> Callable[[str], str]:
        variables = self.variables(process)
        return lambda text: expand(text, variables, escape=self.escape)


def changed(process: Process, one: Instruction, scope: Scope) -> Process:
    """Return *process* after an instruction of CHANGES; InvalidArgumentError with its place."""
    if not one.args:
        raise one.wrong("a value is missing")
    try:
        if one.name in _RAW:
            return _raw(process, one)
        return _EXPANDED[one.name](process, one, scope)
    except ValueError as error:
        raise one.wrong(error) from None


def pairs(one: Instruction, expander: Callable[[str], str]) -> dict[str, str]:
    """Return the names and values of ENV and LABEL. ValueError."""
    found = {
        expander(one.args[at]): expander(one.args[at + 1]) for at in range(0, len(one.args), 3)
    }
    if "" in found:
        raise ValueError("a name is empty")
    return found


def joined(directory: str, path: str) -> str:
    """Return *path*, which may be relative to *directory*, as an absolute clean path."""
    whole = posixpath.normpath(posixpath.join("/", directory, path))
    return "/" + whole.lstrip("/")


def _raw(process: Process, one: Instruction) -> Process:
    if one.name == "HEALTHCHECK":
        flags = "".join(f"--{name}={value} " for name, value in one.flags)
        word, *words = one.args
        command = json.dumps(words) if one.is_json else " ".join(words)
        return apply_instruction(process, one.name, f"{flags}{word} {command}".strip())
    rest = json.dumps(one.args) if one.is_json else one.args[0]
    return apply_instruction(process, one.name, rest)


def _env(process: Process, one: Instruction, scope: Scope) -> Process:
    new = pairs(one, scope.expander(process))
    env = {entry.partition("=")[0]: entry for entry in process.env}
    env |= {name: f"{name}={value}" for name, value in new.items()}
    return msgspec.structs.replace(process, env=tuple(env.values()))


def _label(process: Process, one: Instruction, scope: Scope) -> Process:
    labels = {**process.labels, **pairs(one, scope.expander(process))}
    return msgspec.structs.replace(process, labels=labels)


def _expose(process: Process, one: Instruction, scope: Scope) -> Process:
    variables = scope.variables(process)
    ports = [port for arg in one.args for port in expand_words(arg, variables, escape=scope.escape)]
    if any("$" in port for port in ports):  # which would be expanded again
        raise ValueError(f"no such port: {' '.join(ports)[:100]}")
    return apply_instruction(process, "EXPOSE", " ".join(ports))


def _stop_signal(process: Process, one: Instruction, scope: Scope) -> Process:
    return msgspec.structs.replace(process, stop_signal=_one(process, one, scope))


def _user(process: Process, one: Instruction, scope: Scope) -> Process:
    return msgspec.structs.replace(process, user=_one(process, one, scope))


def _volume(process: Process, one: Instruction, scope: Scope) -> Process:
    expander = scope.expander(process)
    volumes = {**process.volumes, **{expander(path): {} for path in one.args}}
    if "" in volumes:
        raise ValueError("a path is empty")
    return msgspec.structs.replace(process, volumes=volumes)


def _one(process: Process, one: Instruction, scope: Scope) -> str:
    value = scope.expander(process)(one.args[0])
    if not value:
        raise ValueError("a value is missing")
    return value


_EXPANDED: Mapping[str, Callable[[Process, Instruction, Scope], Process]] = {
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
}
