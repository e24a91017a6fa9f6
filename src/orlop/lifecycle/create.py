"""Create a container from a bundle; its first process waits for `start`, or runs.

    create                                       first process
      | folder, record with pid 0                   |
      | cgroup, clone3 ---------------------------->| steps
      |<------------------------------ "at gate"    |
      | record with the pid, pid file, console      |
      | consent ----------------------------------->| waits at the FIFO, or runs
      | ends                                        |

If create is killed at any point, it leaves a folder that records everything else that may
exist, and a process that ends by itself unless its pid is in the record.
"""

from __future__ import annotations

import os

from orlop.errors import CorruptError, InvalidArgumentError, OrlopError, WrongStateError
from orlop.kernel.namespaces import FILES
from orlop.kernel.process import wait_exit
from orlop.lifecycle import delete
from orlop.lifecycle.descriptors import check_terminal, hand_over, inherited
from orlop.lifecycle.folder import Folder, Lock, read, replace
from orlop.lifecycle.gate import admit, open_gate
from orlop.lifecycle.patience import patience_s
from orlop.lifecycle.record import now, start_ticks
from orlop.model import jsontext
from orlop.model.light import TYPE_CHECKING, Any, NamedTuple, cast
from orlop.model.light_context import ExitStack
from orlop.model.oci_shape import CONFIG, check
from orlop.runtime.allowance import grant
from orlop.runtime.bundle import Bundle, Manner, Starting, Stdio
from orlop.runtime.parent import wait_ready
from orlop.runtime.plan import NAMESPACES, plan_rlimits, warnings
from orlop.runtime.start import start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orlop.lifecycle.notify import Notifier
    from orlop.lifecycle.statefile import Record
    from orlop.model.oci import Config


class Request(NamedTuple):
    """The command line's options for a new container."""

    bundle: str
    config_file: str = "config.json"
    pid_file: str = ""
    console_socket: str = ""
    pidfd_socket: str = ""
    preserve_fds: int = 0
    no_pivot: bool = False
    no_new_keyring: bool = False
    systemd_cgroup: bool = False
    no_cgroup: bool = False
    detach: bool = True  # no process stays to serve a terminal


class Created(NamedTuple):
    """A new container; the caller owns *starting*'s descriptors."""

    record: Record
    starting: Starting
    notifier: Notifier | None = None  # the caller waits for it, and closes it
    warnings: Sequence[str] = ()


def create(folder: Folder, request: Request) -> Created:
    """Create the container; its program waits for start(). A failure leaves nothing behind."""
    return _make(folder, request, stdio=Stdio(0, 1, 2), gated=True)


def run(folder: Folder, request: Request, stdio: Stdio) -> Created:
    """Create the container and run its program. A failure leaves nothing behind."""
    return _make(folder, request, stdio=stdio, gated=False)


def _make(folder: Folder, request: Request, *, stdio: Stdio, gated: bool) -> Created:
    text, config = read_config(request)
    terminal = check_terminal(config.get("process", {}), request)
    preserved = inherited(config.get("process", {}), request.preserve_fds)
    with ExitStack() as undo, ExitStack() as ours:
        folder.make()
        undo.callback(_run_poststop, folder, request, config)
        undo.callback(folder.remove)
        ours.enter_context(Lock(folder))
        notifier = None
        if os.environ.get("NOTIFY_SOCKET"):
            text, notifier = _prepare_to_notify(folder, config, gated=gated)
        replace(folder.file("config.json"), text)
        record = new_record(folder, request, config)
        if not terminal:
            record["external_descriptors"] = external_descriptors(stdio)
        folder.save(record)
        gate = open_gate(ours, folder if gated else None)
        bundle = Bundle(folder.name, record["orlop"]["bundle"], config, manner=_manner(request))
        starting = start(bundle, None if terminal else stdio, gate=gate, preserve_fds=preserved)

        told = warnings(config)

        def noted(starting: Starting) -> Starting:
            note(folder, record, starting)
            told.extend(_grant(starting, config))
            return hand_over(request, starting)

        timeout_s = patience_s(config)
        starting = admit(starting, gate, noted, timeout_s=timeout_s)
        if gated:
            os.read(starting.report, 1)  # end of file: the process no longer dies with us
            os.close(starting.report)
        else:
            wait_ready(starting, timeout_s=timeout_s)
            if record["orlop"]["poststart"]:
                _run_poststart(starting, record, config)
        undo.pop_all()
    return Created(record, starting, notifier, told)


def _manner(request: Request) -> Manner:
    return Manner(
        no_pivot=request.no_pivot,
        no_new_keyring=request.no_new_keyring,
        systemd_cgroup=request.systemd_cgroup,
        no_cgroup=request.no_cgroup,
    )


def _grant(starting: Starting, config: Config) -> list[str]:
    process = config.get("process", {})
    rlimits = plan_rlimits(process.get("rlimits", ()))
    return grant(starting.pid, rlimits, process.get("oomScoreAdj"))


def _prepare_to_notify(
    folder: Folder, config: Config, *, gated: bool
) -> tuple[bytes, Notifier | None]:
    """Change *config*, and return it as text, with the container's socket if it starts now."""
    from orlop.lifecycle import notify

    notify.prepare(folder, config)
    text = jsontext.dumps(config).encode(errors="surrogateescape")
    return text, None if gated else notify.listen(folder)


def read_config(request: Request) -> tuple[bytes, Config]:
    """Return config.json as bytes and as a value."""
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
    check(config, CONFIG)
    return text, cast("Config", config)


def _run_poststart(starting: Starting, record: Record, config: Config) -> None:
    """Run the hooks; if one fails, kill and reap the container, which is our child."""
    from orlop.lifecycle import hooks

    try:
        hooks.started(record, config)
    except OrlopError:
        wait_exit(starting.pidfd)
        os.close(starting.pidfd)
        delete.remove_cgroup(record)
        raise


def _run_poststop(folder: Folder, request: Request, config: Config) -> None:
    """Do what delete does, for a container whose creation failed; runtime.md, "Lifecycle"."""
    if config.get("hooks", {}).get("poststop"):
        from orlop.lifecycle import hooks

        hooks.stopped(new_record(folder, request, config), config)


def external_descriptors(stdio: Stdio) -> list[str]:
    """Return the standard streams, so that a restore can replace them."""
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in stdio]


def note(folder: Folder, record: Record, starting: Starting) -> None:
    """Record the process and its cgroup: from here on the container exists."""
    pid = starting.pid
    record["init_process_pid"] = pid
    record["init_process_start"] = start_ticks(pid)
    record["orlop"]["cgroup"] = starting.cgroup.path if starting.cgroup else ""
    if starting.cgroup is not None:
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


def new_record(folder: Folder, request: Request, config: Config) -> Record:
    """Return the record of a container whose process does not exist yet."""
    bundle = os.path.abspath(request.bundle)
    namespaces = config.get("linux", {}).get("namespaces", [])
    hooks = config.get("hooks", {})
    return {
        "id": folder.name,
        "init_process_pid": 0,
        "init_process_start": 0,
        "created": now(),
        "config": _runc_config(bundle, request, config),
        "rootless": os.geteuid() != 0,
        "cgroup_paths": {},
        "namespace_paths": {},
        "external_descriptors": [],
        "intel_rdt_path": "",
        "orlop": {
            "bundle": bundle,
            "cgroup": _cgroup_path(folder, request, config),
            "own_pids": any(e["type"] == "pid" and not e.get("path") for e in namespaces),
            "annotations": config.get("annotations", {}),
            "poststart": bool(hooks.get("poststart")),
            "poststop": bool(hooks.get("poststop")),
            "oci_version": config.get("ociVersion", ""),
        },
    }


def _runc_config(bundle: str, request: Request, config: Config) -> dict[str, Any]:
    """Return the part of the configuration that others read in state.json, in runc's form."""
    linux = config.get("linux", {})
    labels = (f"{name}={value}" for name, value in config.get("annotations", {}).items())
    return {
        "no_pivot_root": request.no_pivot,
        "rootfs": os.path.normpath(os.path.join(bundle, config.get("root", {}).get("path", ""))),
        "readonlyfs": config.get("root", {}).get("readonly", False),
        "hostname": config.get("hostname", ""),
        "domainname": config.get("domainname", ""),
        "namespaces": [
            {"type": _runc_word(entry["type"]), "path": entry.get("path", "")}
            for entry in linux.get("namespaces", [])
        ],
        "cgroups": {"path": linux.get("cgroupsPath", ""), "Systemd": request.systemd_cgroup},
        "version": config.get("ociVersion", ""),
        "labels": [f"bundle={bundle}", *labels],
        "no_new_keyring": request.no_new_keyring,
    }


def _cgroup_path(folder: Folder, request: Request, config: Config) -> str:
    """Return the cgroup that may be left if we are killed; systemd removes its own."""
    if request.systemd_cgroup or request.no_cgroup:
        return ""
    return config.get("linux", {}).get("cgroupsPath") or f"/orlop/{folder.name}"


def _runc_word(kind: str) -> str:
    """Return runc's name of a kind of namespace."""
    if kind not in NAMESPACES:
        return kind  # refused later, with the field's name
    file = FILES[NAMESPACES[kind]]
    return f"NEW{'NS' if file == 'mnt' else file.upper()}"
