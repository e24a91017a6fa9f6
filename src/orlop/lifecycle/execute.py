"""Run another process in a running container."""

from __future__ import annotations

import os

from orlop.errors import CorruptError, NotFoundError, WrongStateError
from orlop.lifecycle.cgroup import below, of_record
from orlop.lifecycle.descriptors import check_open, check_terminal, hand_over
from orlop.lifecycle.folder import Folder, read
from orlop.lifecycle.gate import admit, open_gate
from orlop.lifecycle.patience import START_S
from orlop.lifecycle.record import CREATING, PAUSED, STOPPED, is_alive, status
from orlop.model import jsontext
from orlop.model.light import TYPE_CHECKING, NamedTuple, cast
from orlop.model.light_context import ExitStack
from orlop.model.oci_shape import CONFIG, check
from orlop.runtime.allowance import grant
from orlop.runtime.bundle import Starting, Stdio, Target
from orlop.runtime.execute import execute
from orlop.runtime.parent import wait_ready
from orlop.runtime.plan import plan_rlimits

if TYPE_CHECKING:
    from orlop.lifecycle.statefile import Record
    from orlop.model.oci import Config, Process


class Request(NamedTuple):
    """The command line's options for a new process."""

    process: Process
    pid_file: str = ""
    console_socket: str = ""
    pidfd_socket: str = ""
    preserve_fds: int = 0
    cgroups: tuple[str, ...] = ()  # below the container's: PATH or CONTROLLER,…:PATH
    ignore_paused: bool = False
    detach: bool = False


def load_config(folder: Folder) -> Config:
    """Return the configuration that the container was created with."""
    try:
        config = jsontext.loads(read(folder.file("config.json")))
        check(config, CONFIG)
    except FileNotFoundError:
        raise NotFoundError("container does not exist") from None
    except CorruptError as error:
        raise CorruptError(f"the configuration of container {folder.name}: {error}") from error
    return cast("Config", config)


def run(folder: Folder, config: Config, request: Request, stdio: Stdio) -> Starting:
    """Run a process in the container; the caller closes its descriptors.

    A failure leaves nothing behind.
    """
    record = folder.load()
    _check(folder, record, ignore_paused=request.ignore_paused)
    terminal = check_terminal(request.process, request)
    check_open(request.preserve_fds)
    timeout_s = None if request.ignore_paused else START_S  # a paused one may wait for ever
    with ExitStack() as ours:
        target = _target(record, config, request)
        ours.callback(os.close, target.pidfd)
        gate = open_gate(ours)
        starting = execute(
            target,
            request.process,
            None if terminal else stdio,
            gate=gate,
            preserve_fds=request.preserve_fds,
        )

        def noted(starting: Starting) -> Starting:
            rlimits = plan_rlimits(request.process.get("rlimits", ()))
            grant(starting.pid, rlimits, request.process.get("oomScoreAdj"))
            return hand_over(request, starting)

        starting = admit(starting, gate, noted, timeout_s=timeout_s)
    wait_ready(starting, timeout_s=timeout_s)
    return starting


def _check(folder: Folder, record: Record, *, ignore_paused: bool) -> None:
    current = status(folder, record)
    if current in (STOPPED, CREATING):
        raise WrongStateError("cannot exec in a stopped container")
    if current == PAUSED and not ignore_paused:
        raise WrongStateError("cannot exec in a paused container (use --ignore-paused to override)")


def _target(record: Record, config: Config, request: Request) -> Target:
    """Return the target container; the caller closes the pidfd."""
    pid = record["init_process_pid"]
    cgroup = of_record(record)
    if cgroup is not None and request.cgroups:
        cgroup = below(cgroup, request.cgroups)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        raise WrongStateError("cannot exec in a stopped container") from None
    if not is_alive(record):  # checked after opening the pidfd, so it is the same process
        os.close(pidfd)
        raise WrongStateError("cannot exec in a stopped container")
    keep_keyring = bool(record["config"].get("no_new_keyring"))
    return Target(
        record["id"],
        pid,
        pidfd,
        config,
        cgroup,
        bundle=record["orlop"]["bundle"],
        no_new_keyring=keep_keyring,
    )
