"""What follows the end of a process, in the order in which it must.

    the exit is written     a shim that is killed from here on knows how it ended
    the process is reaped
    its streams drain       whoever follows the log sees all of it before the exit
    its cgroup is removed   with what it has left
    the exit is told        and kept until the engine has stored it

The processes of sandboxes are in no record, and have no streams of ours: their exits are told
at once, and kept by nobody.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterator

from orlop.errors import OrlopError, WrongStateError
from orlop.shim.loop import Loop
from orlop.shim.process import Process, foreign_status, own_child_status
from orlop.shim.protocol import Exit
from orlop.shim.pumps import Pumps
from orlop.shim.records import Records
from orlop.shim.usage import usage

_SIGKILL = 9
_REMOVE_S = 0.005  # first pause before an occupied cgroup is looked at again; then it doubles
_REMOVE_TRIES = 10


class Ends:
    """Ends of *processes*."""

    def __init__(
        self, loop: Loop, records: Records, processes: dict[str, Process], *, pumps: Pumps
    ) -> None:
        self._loop = loop
        self._records = records
        self._processes = processes
        self._pumps = pumps
        pumps.on_drained = self._drained
        self.tell: Callable[[Exit], None] = lambda _: None  # is told each exit
        self.sweep: Callable[[], None] = lambda: None  # reaps orphans
        self._exits = records.exits()
        self._forgotten: set[str] = set()  # exits that are stored already, and still needed here

    # Exits that are kept

    def exits(self) -> Iterator[Exit]:
        """Give those that nobody has asked us to forget."""
        return (exit_ for key, exit_ in self._exits.items() if key not in self._forgotten)

    def exit_of(self, key: str, pid: int) -> Exit | None:
        """Return how the process *pid* ended; the exit of one before it is dropped."""
        exit_ = self._exits.get(key)
        if exit_ is not None and exit_["pid"] != pid:
            self.drop(key)
            return None
        return exit_

    def forget(self, key: str) -> None:
        """Forget an exit, once nothing is left of the process. WrongStateError while it runs."""
        process = self._processes.get(key)
        if process is None:
            self.drop(key)
        elif process.exit is None:
            raise WrongStateError(f"process {key} is running")
        else:
            self._forgotten.add(key)  # once its log is complete: until then a successor needs it

    def drop(self, key: str) -> None:
        """Forget an exit at once; one that is not known is no error."""
        if self._exits.pop(key, None) is not None:
            self._records.remove_exit(key)

    # Ends

    def ended(self, process: Process) -> None:
        """Take the end of a process whose program has run, if it has come to it."""
        try:
            status = own_child_status(process.pidfd)
            ours = True
        except ChildProcessError:
            status = foreign_status(process.pidfd, process.record["pid"])
            ours = False
        if status is None:
            return
        self._loop.forget(process.pidfd)
        if process.spawn is not None:
            self._tell_at_once(process, status)
            return
        self.conclude(process, status)
        if ours:
            os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED)

    def conclude(self, process: Process, status: tuple[int, int]) -> None:
        """Write an exit, and have the streams drained; at last it is told."""
        process.exit = self._write(process, status)
        self._pumps.ended(process.key, process.exit)
        if process.is_init:
            self._kill_rest(process)

    def never_ran(self, process: Process, status: int) -> None:
        """Write and tell the exit of one that was listed, and whose start has failed."""
        self.tell(self._write(process, (status, 0)))

    def _drained(self, key: str) -> None:
        process = self._processes.get(key)
        if process is None or process.exit is None:
            return
        process.close_fds()
        self._finish(process)

    def _tell_at_once(self, process: Process, status: tuple[int, int]) -> None:
        assert process.spawn is not None
        exit_ = self._exit(process, status)
        os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED)
        del self._processes[process.key]
        self.tell(exit_)
        process.spawn.let_go()
        process.close()

    def _exit(self, process: Process, status: tuple[int, int]) -> Exit:
        record = process.record
        exit_ = Exit(
            id=record["id"],
            pid=record["pid"],
            status=status[0],
            signal=status[1],
            time_ns=time.time_ns(),
            oom=self._was_short_of_memory(process, status[0]),
        )
        if "exec_id" in record:
            exit_["exec_id"] = record["exec_id"]
        if "group" in record or process.spawn is not None:
            exit_["usage"] = usage(process)
        return exit_

    def _was_short_of_memory(self, process: Process, status: int) -> bool:
        if process.is_init:
            return process.oom_kills() > 0
        container = self._processes.get(process.record["id"])
        counts = "group" in process.record or process.spawn is not None
        if status != 128 + _SIGKILL or container is None or not counts:
            return False
        return container.oom_kills() > process.oom_before

    def _write(self, process: Process, status: tuple[int, int]) -> Exit:
        exit_ = self._exits[process.key] = self._exit(process, status)
        try:
            self._records.write_exit(process.key, exit_)
        except OSError:  # the folder is full: it is told all the same, once
            traceback.print_exc()
        return exit_

    def _kill_rest(self, process: Process) -> None:
        """Kill what the first process left: other processes of its cgroup, and its execs."""
        try:
            if process.cgroup is not None:
                process.cgroup.kill(_SIGKILL)
        except (OSError, OrlopError):
            traceback.print_exc()

    def _finish(self, process: Process) -> None:
        """Remove the cgroup once it is empty, then tell everyone."""
        if process.is_init and process.cgroup is not None and not self._removed(process):
            if process.removals <= _REMOVE_TRIES:
                pause = _REMOVE_S * 2**process.removals
                self._loop.later(pause, lambda: self._finish(process))
                return
            traceback.print_stack()
        process.close()
        self._processes.pop(process.key, None)
        self._records.end(process.key)
        if process.key in self._forgotten:
            self._forgotten.discard(process.key)
            self.drop(process.key)
        assert process.exit is not None
        self.tell(process.exit)

    def _removed(self, process: Process) -> bool:
        assert process.cgroup is not None
        process.removals += 1
        self.sweep()
        try:
            if next(iter(process.cgroup.pids()), None) is not None:
                return False
            process.cgroup.remove(timeout_s=0)
        except (OSError, OrlopError) as error:
            return isinstance(error, FileNotFoundError)
        return True
