"""What the shim is told of processes in running containers."""

import base64
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from orlop.engine.records import short
from orlop.engine.telemetry.asked import asked
from orlop.model.container import Container, Exec

#: Is called with an exit, as the shim tells it, and whether its time was over.
Ended = Callable[[dict[str, Any]], None]

#: How a process has ended that went with the shim.
KILLED = {"status": 137, "signal": 9, "oom": False}


class ClientStreams(NamedTuple):
    """Who gets a process's streams."""

    socket: socket.socket
    pending: bytes = b""  # what the client has sent early
    tell_status: bool = False  # let frames end with one that holds the exit code
    framed: bool = True  # Docker's frames, or plain bytes


class Command(NamedTuple):
    """What to run; no words: the first process of a sandbox that does nothing."""

    words: Sequence[str] = ()
    environment: Sequence[str] = ()
    folder: str = ""
    user: str = ""
    limit_s: float = 0.0  # after which it is killed with all that it has started; 0: never


def group_of(exec_id: str) -> str:
    """Return the name of the cgroup that a process and all that it starts are in."""
    return f"exec-{short(exec_id)}"


def exec_message(
    exec_: Exec, size: tuple[int, int] | None, *, within_s: float | None
) -> dict[str, Any]:
    """Return the shim's op "exec"."""
    options, process = exec_.options, exec_.process.copy()
    size = size or options.console_size
    if size is not None and options.terminal:
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    message: dict[str, Any] = {
        "op": "exec",
        "id": exec_.container,
        "exec_id": exec_.id,
        "process": process,
        "io": {
            "terminal": options.terminal,
            "stdin": options.attach_stdin,
            "stdin_once": True,
        },
    }
    if options.grouped:
        message["group"] = group_of(exec_.id)
    if within_s is not None:
        message["timeout_s"] = within_s
    if asked.get().timeline:
        message["timeline"] = True
    return message


def command_message(
    container: Container, exec_id: str, command: Command, process: dict[str, Any]
) -> dict[str, Any]:
    """Return the shim's op "spawn_exec"."""
    options = container.options
    return {
        "op": "spawn_exec",
        "id": container.id,
        "exec_id": exec_id,
        "name": options.hostname or container.name,
        "group": group_of(exec_id),
        "process": process,
        "args": list(command.words),
        "env": list(command.environment),
        "folder": command.folder or options.working_dir or "/",
        "streams": True,
    }


def attach_message(exec_: Exec, client: ClientStreams) -> dict[str, Any]:
    """Return who gets its streams, as the stdio process is told."""
    options = exec_.options
    return {
        "key": f"{exec_.container}/{exec_.id}",
        "wait": True,
        "stdin": options.attach_stdin,
        "stdout": options.attach_stdout,
        "stderr": options.attach_stderr,
        "detach_keys": options.detach_keys or ("" if options.grouped else "ctrl-p,ctrl-q"),
        "pending": base64.b64encode(client.pending).decode(),
        "tell_status": client.tell_status,
        "multiplex": client.framed,
    }
