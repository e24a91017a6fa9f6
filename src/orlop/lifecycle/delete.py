"""Delete a container that has stopped, or the remains of a crash."""

from __future__ import annotations

import os
import time

from orlop.errors import NotFoundError, WrongStateError
from orlop.lifecycle import kill
from orlop.lifecycle.folder import Folder, Lock, end_holder
from orlop.lifecycle.record import CREATED, STOPPED, is_alive, is_frozen, status
from orlop.model.light_context import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.lifecycle.statefile import Record

_DEATH_TIMEOUT_S = 10.0
_LOCK_TIMEOUT_S = 2.0


def delete(folder: Folder, *, force: bool = False) -> list[str]:
    """Remove the container. Without *force*, WrongStateError if it runs.

    With *force* it is killed first, and a missing one is no error. Returns the failures of
    its hooks: it is removed all the same.
    """
    try:
        with _lock(folder, force=force):
            return _delete(folder, force=force)
    except NotFoundError:
        if not force:
            raise
        return []


def _lock(folder: Folder, *, force: bool) -> Lock:
    """Return the lock; with *force* kill a holder that does not finish.

    The holder may wait for a hook, or for a program's start; its unfinished work ends with it.
    """
    if not force:
        return Lock(folder)
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with Lock(folder, wait=False):
                break
        except (BlockingIOError, PermissionError):
            time.sleep(0.01)
    else:
        end_holder(folder)
    return Lock(folder)


def _delete(folder: Folder, *, force: bool) -> list[str]:
    try:
        record = folder.load()
    except NotFoundError:  # create was killed after making the folder
        folder.remove()
        return []
    current = status_under_lock(folder, record)
    if current not in (STOPPED, CREATED) and not force:
        raise WrongStateError(
            f"cannot delete container {folder.name} that is not stopped: {current}"
        )
    end(record)
    return destroy(folder, record)


def status_under_lock(folder: Folder, record: Record) -> str:
    """Return the status for the lock's holder: nobody else is creating or starting it."""
    return status(folder, record) if record["init_process_pid"] else STOPPED


def end(record: Record) -> None:
    """Kill all processes of the container, and wait until they are dead."""
    if is_alive(record):
        with suppress(WrongStateError):  # it has just ended
            kill.send(record, kill.SIGKILL)
        _thaw(record)
        _await_death(record)
    if record["init_process_pid"] and not record["orlop"]["own_pids"]:
        kill.send_all(record, kill.SIGKILL)


def _thaw(record: Record) -> None:
    """Thaw a paused container so that it can die: necessary under cgroup v1."""
    if is_frozen(record):
        from orlop.lifecycle.cgroup import of_record

        if (cgroup := of_record(record)) is not None:
            cgroup.thaw()


def _await_death(record: Record) -> None:
    deadline = time.monotonic() + _DEATH_TIMEOUT_S
    pause_s = 0.0005
    while is_alive(record):
        if time.monotonic() > deadline:
            raise WrongStateError("container init still running")
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.02)


def destroy(folder: Folder, record: Record) -> list[str]:
    """Remove everything besides the processes; return the failures of hooks."""
    remove_cgroup(record)
    if not record["orlop"]["poststop"]:
        folder.remove()
        return []
    from orlop.lifecycle import hooks
    from orlop.lifecycle.execute import load_config

    config = load_config(folder)
    folder.remove()
    return hooks.stopped(record, config)


def remove_cgroup(record: Record) -> None:
    """Remove the cgroup's folders: usually with one call for each."""
    kept_by_systemd = record["config"]["cgroups"].get("Systemd")
    if not kept_by_systemd and _removed(record["cgroup_paths"]):
        return
    if not record["orlop"]["cgroup"]:
        return
    from orlop.lifecycle.cgroup import of_record

    cgroup = of_record(record)
    try:
        if cgroup is not None:
            cgroup.remove()
    except WrongStateError:
        if record["init_process_pid"]:
            raise  # otherwise it is somebody else's: create was killed before making one


def _removed(paths: dict[str, str]) -> bool:
    try:
        for path in dict.fromkeys(paths.values()):
            try:
                os.rmdir(path)
            except FileNotFoundError:
                continue
    except OSError:
        return False
    return bool(paths)
