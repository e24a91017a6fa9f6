"""`--change` of commit and import: apply Dockerfile instructions to a configuration."""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from orlop.errors import InvalidArgumentError
from orlop.images import words
from orlop.model.durations import parse_duration_ns
from orlop.model.image import SHORTEST_CHECK_NS, Healthcheck, Process

_PORT = re.compile(r"\d{1,5}(?:-\d{1,5})?(?:/(?:tcp|udp|sctp))?")


def apply_changes(process: Process, changes: Iterable[str]) -> Process:
    """Return *process* after each instruction; InvalidArgumentError names a wrong one.

    CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL,
    USER, VOLUME and WORKDIR, as in the Dockerfile reference. Variables have their values
    from the environment before the instruction.
    """
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        if word.upper() not in _INSTRUCTIONS:
            known = ", ".join(_INSTRUCTIONS)
            raise InvalidArgumentError(f"unknown change {word[:50]!r}", hint=f"known: {known}")
        try:
            process = apply_instruction(process, word.upper(), rest.strip())
        except ValueError as error:
            raise InvalidArgumentError(f"invalid change {change[:200]!r}: {error}") from error
    return process


def apply_instruction(process: Process, name: str, rest: str) -> Process:
    """Return *process* after the instruction *name*, one of apply_changes(). ValueError."""
    return _INSTRUCTIONS[name](process, rest)


def _cmd(process: Process, rest: str) -> Process:
    return msgspec.structs.replace(process, cmd=_command(process, rest), args_escaped=False)


def _entrypoint(process: Process, rest: str) -> Process:
    return msgspec.structs.replace(process, entrypoint=_command(process, rest))


def _env(process: Process, rest: str) -> Process:
    new = _pairs(process, rest)
    kept = tuple(entry for entry in process.env if entry.partition("=")[0] not in new)
    added = tuple(f"{name}={value}" for name, value in new.items())
    return msgspec.structs.replace(process, env=kept + added)


def _expose(process: Process, rest: str) -> Process:
    ports = dict(process.exposed_ports)
    for word in _expanded(process, rest).split():
        if not _PORT.fullmatch(word):
            raise ValueError(f"no such port: {word}")
        ports[word if "/" in word else f"{word}/tcp"] = {}
    return msgspec.structs.replace(process, exposed_ports=ports)


def _healthcheck(process: Process, rest: str) -> Process:
    options: dict[str, str] = {}
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        name, _, value = option[2:].partition("=")
        options[name], rest = value, rest.strip()
    if rest.upper() == "NONE":
        return msgspec.structs.replace(process, healthcheck=Healthcheck(test=("NONE",)))
    word, _, command = rest.partition(" ")
    if word.upper() != "CMD" or not command.strip():
        raise ValueError("expected CMD or NONE")
    listed = _json_list(command)
    test = ("CMD", *listed) if listed is not None else ("CMD-SHELL", command.strip())
    retries = int(options.pop("retries", "0"))
    times = {name.replace("-", "_"): _check_ns(text) for name, text in options.items()}
    check = Healthcheck(
        test=test,
        retries=retries,
        interval=times.pop("interval", 0),
        timeout=times.pop("timeout", 0),
        start_period=times.pop("start_period", 0),
        start_interval=times.pop("start_interval", 0),
    )
    if times:
        raise ValueError(f"unknown option --{next(iter(times)).replace('_', '-')}")
    if retries < 0:
        raise ValueError("--retries cannot be negative")
    return msgspec.structs.replace(process, healthcheck=check)


def _label(process: Process, rest: str) -> Process:
    return msgspec.structs.replace(process, labels={**process.labels, **_pairs(process, rest)})


def _on_build(process: Process, rest: str) -> Process:
    return msgspec.structs.replace(process, on_build=(*process.on_build, _needed(rest)))


def _shell(process: Process, rest: str) -> Process:
    listed = _json_list(rest)
    if not listed:
        raise ValueError("expected a JSON list")
    return msgspec.structs.replace(process, shell=listed)


def _stop_signal(process: Process, rest: str) -> Process:
    return msgspec.structs.replace(process, stop_signal=_needed(_expanded(process, rest)))


def _user(process: Process, rest: str) -> Process:
    return msgspec.structs.replace(process, user=_needed(_expanded(process, rest)))


def _volume(process: Process, rest: str) -> Process:
    paths = _json_list(rest) or tuple(_needed(rest).split())
    volumes = dict(process.volumes)
    volumes |= {_expanded(process, path): {} for path in paths}
    return msgspec.structs.replace(process, volumes=volumes)


def _working_dir(process: Process, rest: str) -> Process:
    path = posixpath.join(process.working_dir or "/", _needed(_expanded(process, rest)))
    return msgspec.structs.replace(process, working_dir=posixpath.normpath(path))


_INSTRUCTIONS: Mapping[str, Callable[[Process, str], Process]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _working_dir,
}


def _command(process: Process, rest: str) -> tuple[str, ...]:
    """Return a JSON list unchanged, anything else as an argument of the shell."""
    listed = _json_list(rest)
    if listed is not None:
        return listed
    return (*(process.shell or ("/bin/sh", "-c")), rest) if rest else ()


def _json_list(text: str) -> tuple[str, ...] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        return tuple(msgspec.json.decode(text, type=list[str]))
    except msgspec.DecodeError:
        return None


def _variables(process: Process) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in process.env)}


def _expanded(process: Process, text: str) -> str:
    return words.expand(text, _variables(process))


def _pairs(process: Process, text: str) -> dict[str, str]:
    """Parse `A=1 B="two words $A"`, or the old form `A the rest`."""
    first, _, rest = text.partition(" ")
    if first and "=" not in first:
        return {_expanded(process, first): _expanded(process, _needed(rest.strip()))}
    entries = words.split(text)
    if not entries or any("=" not in entry or entry.startswith("=") for entry in entries):
        raise ValueError("expected NAME=VALUE")
    pairs = (entry.partition("=") for entry in entries)
    return {_expanded(process, name): _expanded(process, value) for name, _, value in pairs}


def _needed(text: str) -> str:
    if not text:
        raise ValueError("a value is missing")
    return text


def _check_ns(text: str) -> int:
    time_ns = parse_duration_ns(text)
    if 0 < time_ns < SHORTEST_CHECK_NS:
        raise ValueError(f"{text} is less than 1ms")
    return time_ns
