"""From a bundle to a container whose first process waits for its start, or has gone on.

    create                                       first process
      | folder, record with pid 0                   |
      | cgroup, clone3 ---------------------------->| steps
      |<------------------------------ "at gate"    |
      | record with the pid, pid file, console      |
      | consent ----------------------------------->| waits at the FIFO, or runs
      | ends                                        |

Killed at any point, create leaves a folder that says what else there may be, and
a process that ends by itself unless the record has its pid.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple, cast

from orlop.errors import CorruptError, InvalidArgumentError, OrlopError, WrongStateError
from orlop.lifecycle import descriptors
from orlop.lifecycle.folder import Folder, Lock, read, replace
from orlop.lifecycle.record import now, start_ticks
from orlop.model import jsontext
from orlop.runtime.bundle import Bundle, Gate, Manner, Starting, Stdio
from orlop.runtime.parent import FILES, settle, wait_created, wait_ready
from orlop.runtime.plan import NAMESPACES
from orlop.runtime.start import start

if TYPE_CHECKING:
    from typing import Any

    from orlop.lifecycle.record import Record
    from orlop.model.oci import Config


class Request(NamedTuple):
    """What the command line says about a container to be."""

    bundle: str
    config_file: str = "config.json"
    pid_file: str = ""
    console_socket: str = ""
    preserve_fds: int = 0
    no_pivot: bool = False
    no_new_keyring: bool = False
    systemd_cgroup: bool = False
    detach: bool = True  # nobody stays to serve a terminal


class Created(NamedTuple):
    """A container that has just been made; *starting*'s descriptors are the caller's."""

    record: Record
    starting: Starting


def create(folder: Folder, request: Request) -> Created:
    """Make the container; its program waits for start(). Nothing is left where this raises."""
    return _make(folder, request, stdio=Stdio(0, 1, 2), gated=True)


def run(folder: Folder, request: Request, stdio: Stdio) -> Created:
    """Make the container and let its program run. Nothing is left where this raises."""
    return _make(folder, request, stdio=stdio, gated=False)


def _make(folder: Folder, request: Request, *, stdio: Stdio, gated: bool) -> Created:
    text, config = read_config(request)
    terminal = check_terminal(config.get("process", {}), request)
    preserved = descriptors.preserved(config.get("process", {}), request.preserve_fds)
    with ExitStack() as undo, ExitStack() as ours:
        folder.make()
        undo.callback(folder.remove)
        ours.enter_context(Lock(folder))
        replace(folder.file("config.json"), text)
        record = new_record(folder, request, config)
        if not terminal:
            record["external_descriptors"] = external_descriptors(stdio)
        folder.save(record)
        gate = _gate(folder, ours, gated=gated)
        manner = Manner(request.no_pivot, request.no_new_keyring)
        bundle = Bundle(folder.name, record["orlop"]["bundle"], config, manner=manner)
        starting = start(bundle, None if terminal else stdio, gate=gate, preserve_fds=preserved)
        wait_created(starting)
        with ExitStack() as abort:
            abort.callback(_abort, starting)
            note(folder, record, starting)
            starting = hand_over(request, starting)
            os.write(gate.consenting, b"g")
            abort.pop_all()
        if gated:
            os.close(starting.report)
        else:
            wait_ready(starting)
        undo.pop_all()
    return Created(record, starting)


def read_config(request: Request) -> tuple[bytes, Config]:
    """Return config.json as it is, and as a value."""
    path = os.path.join(request.bundle, request.config_file)
    try:
        text = read(path)
        config = jsontext.loads(text)
    except FileNotFoundError:
        raise InvalidArgumentError(
            f"JSON specification file {request.config_file} not found in {request.bundle!r}"
        ) from None
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidArgumentError(f"cannot read {path}: {reason}") from error
    except CorruptError as error:
        raise InvalidArgumentError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise InvalidArgumentError(f"cannot read {path}: it holds no object")
    return text, cast("Config", config)


def check_terminal(process: Any, request: Request) -> bool:
    """Return whether the process has a terminal; refuse one that nobody would serve."""
    terminal = bool(process.get("terminal"))
    if request.detach and terminal and not request.console_socket:
        raise InvalidArgumentError(
            "cannot allocate tty if orlop-runtime will detach without setting console socket"
        )
    if request.console_socket and not (request.detach and terminal):
        raise InvalidArgumentError(
            "cannot use console socket if orlop-runtime will not detach or allocate tty"
        )
    return terminal


def external_descriptors(stdio: Stdio) -> list[str]:
    """Return what the standard streams are, for a restore to put others in their place."""
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in stdio]


def _gate(folder: Folder, ours: ExitStack, *, gated: bool) -> Gate:
    consent, consenting = os.pipe()
    ours.callback(os.close, consent)
    ours.callback(os.close, consenting)
    if not gated:
        return Gate(consent, consenting)
    fifos = []
    for name in ("gate", "outcome"):
        os.mkfifo(folder.file(name), 0o600)
        # For writing too, so that it has no end of file when whoever wrote closes it. fifo(7)
        fifos.append(os.open(folder.file(name), os.O_RDWR | os.O_CLOEXEC))
        ours.callback(os.close, fifos[-1])
    return Gate(consent, consenting, *fifos)


def note(folder: Folder, record: Record, starting: Starting) -> None:
    """Write down the process and its cgroup: from here on the container exists."""
    pid = starting.pid
    record["init_process_pid"] = pid
    record["init_process_start"] = start_ticks(pid)
    if starting.cgroup is not None:
        record["orlop"]["cgroup"] = starting.cgroup.path
        record["cgroup_paths"] = {
            name: path
            for names, path in starting.cgroup.directories.items()
            for name in names.split(",")
        }
    record["namespace_paths"] = {
        f"NEW{'NS' if file == 'mnt' else file.upper()}": f"/proc/{pid}/ns/{file}"
        for file in FILES.values()
    }
    if not record["init_process_start"]:
        raise WrongStateError(f"{starting.what}: its process was killed")
    folder.save(record)


def hand_over(request: Request, starting: Starting) -> Starting:
    """Give the pid and the terminal to who asked for them."""
    if request.console_socket and starting.console is not None:
        descriptors.send_terminal(request.console_socket, starting.console)
        os.close(starting.console)
        starting = starting._replace(console=None)
    if request.pid_file:
        descriptors.write_pid(request.pid_file, starting.pid)
    return starting


def _abort(starting: Starting) -> None:
    with suppress(OrlopError):
        settle(starting, b"?")  # kills, reaps, removes the cgroup


def new_record(folder: Folder, request: Request, config: Config) -> Record:
    linux = config.get("linux", {})
    bundle = os.path.abspath(request.bundle)
    rootfs = os.path.normpath(os.path.join(bundle, config.get("root", {}).get("path", "")))
    annotations = config.get("annotations", {})
    namespaces = linux.get("namespaces", [])
    hooks = config.get("hooks", {})
    return {
        "id": folder.name,
        "init_process_pid": 0,
        "init_process_start": 0,
        "created": now(),
        "config": {
            "no_pivot_root": request.no_pivot,
            "rootfs": rootfs,
            "readonlyfs": config.get("root", {}).get("readonly", False),
            "hostname": config.get("hostname", ""),
            "domainname": config.get("domainname", ""),
            "namespaces": [
                {"type": _runc_word(entry["type"]), "path": entry.get("path", "")}
                for entry in namespaces
            ],
            "cgroups": {"path": linux.get("cgroupsPath", ""), "Systemd": request.systemd_cgroup},
            "version": config.get("ociVersion", ""),
            "labels": [f"bundle={bundle}", *(f"{k}={v}" for k, v in annotations.items())],
            "no_new_keyring": request.no_new_keyring,
        },
        "rootless": os.geteuid() != 0,
        "cgroup_paths": {},
        "namespace_paths": {},
        "external_descriptors": [],
        "intel_rdt_path": "",
        "orlop": {
            "bundle": bundle,
            "cgroup": linux.get("cgroupsPath") or f"/orlop/{folder.name}",
            "own_pids": any(e["type"] == "pid" and not e.get("path") for e in namespaces),
            "annotations": annotations,
            "poststart": bool(hooks.get("poststart")),
            "poststop": bool(hooks.get("poststop")),
            "oci_version": config.get("ociVersion", ""),
        },
    }


def _runc_word(kind: str) -> str:
    """Return runc's name of a kind of namespace."""
    namespace = NAMESPACES.get(kind)
    if namespace is None:
        raise InvalidArgumentError(f"unknown namespace type {kind!r}")
    file = FILES[namespace]
    return f"NEW{'NS' if file == 'mnt' else file.upper()}"
