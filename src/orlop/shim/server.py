"""The shim: a fork server, the parent of every container.

Single-threaded, and nothing in it waits for long: a start is a clone and a
report that comes back through the loop, so several overlap. It decides nothing;
it starts, signals, reaps, remembers, and keeps copies of the descriptors that
the stdio process pumps.
"""

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from orlop.errors import AlreadyExistsError, NotFoundError, WrongStateError
from orlop.kernel.terminal import set_size
from orlop.runtime.parent import LATE
from orlop.shim import adopt, build, orphans
from orlop.shim.channel import LATER, Channel, Message, accept, close_all
from orlop.shim.dumps import Dumps
from orlop.shim.ending import Ending
from orlop.shim.ends import Ends
from orlop.shim.failure import failure
from orlop.shim.launcher import Made
from orlop.shim.listing import Listing, counts
from orlop.shim.loop import Loop, Timer
from orlop.shim.process import Process, Waiter
from orlop.shim.protocol import Exit
from orlop.shim.pumps import Pumps
from orlop.shim.records import Records, key_of
from orlop.shim.restores import Restores
from orlop.shim.spaces import Spaces
from orlop.shim.spawns import Spawns
from orlop.shim.starts import Starts

_SWEEP_S = 10.0
_START_S = 60.0
_STATUSES = {"command_not_found": 127, "command_not_executable": 126}
_NEVER_RAN = 128
_REFILL_S = 0.002


class Server:
    """Serves protocol.py's shim half on *listener*; *pumps* leads to the stdio process."""

    def __init__(self, loop: Loop, *, run: str, listener: socket.socket, pumps: Pumps) -> None:
        self._loop = loop
        self._listener = listener
        self._path = os.path.join(run, "shim.sock")
        self._channels: set[Channel] = set()
        self._records = Records(run)
        self._processes: dict[str, Process] = {}
        self._pumps = pumps
        self._spawns = Spawns(loop, self._processes, watch=self._watch_end)
        launchers = self._spawns.launchers
        self._starts = Starts(
            self._records, self._processes, pumps, spawns=self._spawns, made=self._made
        )
        self._ends = Ends(loop, self._records, self._processes, pumps=pumps)
        self._ends.tell, self._ends.sweep = self._tell_exit, self._sweep_now
        self._listing = Listing(self._processes, self._ends)
        self._dumps = Dumps(loop, self._processes)
        self._restores = Restores(
            loop, self._records, self._starts, begun=self._restored, sweep=self._sweep_now
        )
        self.ending = Ending(
            loop,
            self._processes,
            pumps=pumps,
            starts=self._starts,
            spawns=self._spawns,
            is_busy=lambda: bool(self._dumps.pids | self._restores.pids or launchers.waiting),
        )
        self._refilling = Timer(lambda: None)
        self._operations = self._table()
        pumps.on_stdin_closed = self._stdin_closed
        self._adopt(pumps.open(self._processes))
        listener.settimeout(0)
        loop.watch(listener.fileno(), self._accept)
        loop.later(_SWEEP_S, self._sweep)

    # Requests

    def _table(self) -> dict[str, Callable[[Channel, Message], Any]]:
        return {
            "hello": lambda _channel, _message: {"pid": os.getpid(), "build": build.BUILD},
            "start": self._start,
            "exec": self._start,
            "dump": self._dumps.begin,
            "dump_end": self._dumps.end,
            "restore": self._restore,
            "signal": self._signal,
            "resize": self._resize,
            "close_stdin": self._close_stdin,
            "forget": self._forget,
            "list": self._listing.list,
            "counts": lambda *_: counts(self._processes, self._starts.ahead, self._spawns),
            "subscribe": self._subscribe,
            "recipe": self._learn,
            "spawn": self._spawn,
            "spawn_exec": self._spawn,
            "lend": self._lend,
            **self._spawns.operations(),
            **Spaces(self._pumps).operations(),
            "shutdown": self.ending.shut_down,
            "renew": self.ending.renew,
        }

    def _accept(self, _: int) -> None:
        sock = accept(self._listener)
        if sock is None:
            return
        channel = Channel(self._loop, sock, on_message=self._dispatch, on_close=self._gone)
        self._channels.add(channel)

    def _gone(self, channel: Channel) -> None:
        self._channels.discard(channel)
        self._dumps.lost(channel)
        self._restores.lost(channel)

    def _dispatch(self, channel: Channel, message: Message, fds: list[int]) -> None:
        message["fds"] = fds  # who wants one takes it out
        try:
            answer = self._operations[message["op"]](channel, message)
        except Exception as error:
            channel.send({"seq": message.get("seq"), "error": failure(error)})
        else:
            if answer is not LATER:
                channel.send({"seq": message.get("seq"), "ok": answer})
        finally:
            close_all(fds)

    def _start(self, channel: Channel, message: Message) -> Any:
        key = self._new_key(message)
        self._ends.drop(key)  # before there is another process of that name
        process = self._starts.begin(key, message)
        if "attach" in message:
            process.client = Waiter(message["attach"], message["fds"].pop())
        self._processes[key] = process
        process.waiting = (channel, message["seq"])
        timeout_s = message.get("timeout_s", _START_S)
        process.limit = self._loop.later(timeout_s, lambda: self._expired(process))
        self._watch_start(process)
        return LATER

    def _watch_start(self, process: Process) -> None:
        assert process.starting is not None
        report = process.starting.report
        if process.order is not None:  # its launcher tells the rest
            self._loop.watch(report, lambda _: self._born(process))
            return
        self._loop.watch(report, lambda _: self._reported(process))
        self._watch_end(process)

    def _learn(self, _channel: Channel, message: Message) -> None:
        self._spawns.learn(message)
        self._refill_later()

    def _new_key(self, message: Message) -> str:
        key = key_of(message)
        if key in self._processes or self._restores.knows(key):
            raise AlreadyExistsError(f"process {key} is running")
        return key

    def _restore(self, channel: Channel, message: Message) -> Any:
        key = self._new_key(message)
        self._ends.drop(key)
        self._restores.begin(key, message, channel)
        return LATER

    def _restored(self, process: Process) -> None:
        self._processes[process.key] = process
        self._pumps.add(process)
        self._watch_end(process)
        self._refill_later()

    def _spawn(self, channel: Channel, message: Message) -> Any:
        """Start a sandbox, or a process in one."""
        key = self._new_key(message)
        begin = self._spawns.execute if "exec_id" in message else self._spawns.start

        def answer(ok: Any, error: Exception | None) -> None:
            said = {"ok": ok} if error is None else {"error": failure(error)}
            channel.send({"seq": message.get("seq"), **said})
            self._refill_later()

        begin(key, message, answer)
        return LATER

    def _lend(self, channel: Channel, message: Message) -> Any:
        overlays, fd = self._spawns.lend(message)
        channel.send({"seq": message.get("seq"), "ok": {"overlays": overlays}}, [fd])
        return LATER

    def _watch_end(self, process: Process) -> None:
        self._loop.watch(process.pidfd, lambda _: self._ended(process))

    def _signal(self, _channel: Channel, message: Message) -> None:
        process = self._running(message)
        try:
            process.signal(message["signal"])
        except ProcessLookupError:
            raise WrongStateError(f"process {process.key} has ended") from None

    def _resize(self, _channel: Channel, message: Message) -> None:
        process = self._running(message)
        if "terminal" not in process.fds:
            raise WrongStateError(f"process {process.key} has no terminal")
        set_size(process.fds["terminal"], height=message["height"], width=message["width"])

    def _close_stdin(self, _channel: Channel, message: Message) -> None:
        self._pumps.send({"op": "close_stdin", "key": self._running(message).key})

    def _forget(self, _channel: Channel, message: Message) -> None:
        self._ends.forget(key_of(message))

    def _subscribe(self, channel: Channel, _message: Message) -> None:
        channel.subscribed = True

    def _running(self, message: Message) -> Process:
        key = key_of(message)
        process = self._processes.get(key)
        if process is None:
            raise NotFoundError(f"process {key} is not running")
        if not process.running:
            raise WrongStateError(f"process {key} is not running")
        return process

    # What happens

    def _born(self, process: Process) -> None:
        """Note a child that its launcher has made."""
        if process.order is None or process.starting is None:
            return
        self._loop.forget(process.starting.report)
        self._starts.born(process)
        self._listing.born()

    def _made(self, process: Process, made: Made | None) -> None:
        """Take a launcher's answer: the program runs, or a Python child makes it once more."""
        assert process.starting is not None
        self._refill_later()
        self._loop.forget(process.starting.report)
        try:
            runs = self._starts.settle_made(process, made)
        except Exception as error:
            self._failed(process, error)
            return
        finally:
            self._listing.born()
        if not runs:
            self._watch_start(process)
            return
        self._watch_end(process)
        self._runs(process)

    def _reported(self, process: Process) -> None:
        """Take the child's report; at its end the program runs, or the start has failed."""
        starting = process.starting
        if starting is None:
            return
        try:
            part = os.read(starting.report, 65536)
        except BlockingIOError:
            return
        process.report += part
        if part:
            return
        self._settle(process)

    def _expired(self, process: Process) -> None:
        """Undo a start that does not come to its end."""
        if process.order is not None:
            self._starts.call_off(process)
        elif process.starting is not None:
            process.report = LATE
            self._settle(process)

    def _settle(self, process: Process) -> None:
        assert process.starting is not None
        self._refill_later()
        self._loop.forget(process.starting.report)
        try:
            self._starts.settle(process)
        except Exception as error:
            self._failed(process, error)
            return
        self._runs(process)

    def _runs(self, process: Process) -> None:
        """Have its streams pumped, and tell who has asked for it."""
        since = process.times.now()
        self._pumps.add(process)
        process.times.note("connect_streams", since)
        answer: dict[str, Any] = {"pid": process.record["pid"], "time_ns": time.time_ns()}
        if process.times.steps:
            answer["steps"] = process.times.steps
        self._answer(process, ok=answer)

    def _refill_later(self) -> None:
        """Have it done when who waits for this start has been answered, and before the next."""
        self._refilling.cancel()
        self._refilling = self._loop.later(_REFILL_S, self._refill)

    def _refill(self) -> None:
        """Make one thing ahead, and look again soon for the next."""
        if self._starts.ahead.refill() or self._spawns.refill():
            self._refill_later()

    def _failed(self, process: Process, error: Exception) -> None:
        """Forget a process that never ran: settle() has reaped it and removed its cgroup."""
        self._loop.forget(process.pidfd)
        process.pidfd = -1
        process.close()
        self._processes.pop(process.key, None)
        self._records.end(process.key)
        told = failure(error)
        if process.listed:
            self._ends.never_ran(process, _STATUSES.get(told["kind"], _NEVER_RAN))
        self._answer(process, error=told)

    def _answer(self, process: Process, **result: Any) -> None:
        if process.waiting is not None:
            channel, seq = process.waiting
            process.waiting = None
            channel.send({"seq": seq, **result})

    def _ended(self, process: Process) -> None:
        if process.starting is not None:  # the report comes before the end
            self._reported(process)
            if process.starting is not None or process.pidfd < 0:
                return
        self._ends.ended(process)

    def _tell_exit(self, exit_: Exit) -> None:
        for channel in list(self._channels):
            if channel.subscribed:
                channel.send({"event": "exit", **exit_})

    def _stdin_closed(self, key: str) -> None:
        if key in self._processes:
            self._processes[key].close_fd("stdin")

    # Orphans, and the shim before us

    def _sweep(self) -> None:
        self._sweep_now()
        self._starts.sweep()
        if not self._processes and not self._channels and not os.path.exists(self._path):
            self._pumps.shut_down(end=True)  # the folder was removed: nobody can ever come
            self._loop.stop()
        self._loop.later(_SWEEP_S, self._sweep)

    def _sweep_now(self) -> None:
        self._starts.ahead.processes.reap()
        own = {process.record["pid"] for process in self._processes.values()}
        own.add(self._pumps.pid)
        own |= self._starts.ahead.processes.pids
        own |= self._spawns.launchers.pids | self._dumps.pids | self._restores.pids
        orphans.reap(own)

    def _adopt(self, held: adopt.Held) -> None:
        outlived = not self._pumps.pid  # then it holds all that ever ran
        for key, record in self._records.running().items():
            exit_ = self._ends.exit_of(key, record["pid"])
            unmade = outlived and key not in held and exit_ is None
            process = adopt.adopt(key, record, held.pop(key, {}), may_be_unmade=unmade)
            if process is None:
                self._pumps.drop(key)
                self._records.end(key)
                continue
            self._processes[key] = process
            if exit_ is not None:
                process.exit = exit_
                self._pumps.ended(key, exit_)
            elif process.pidfd < 0:
                self._ends.conclude(process, (adopt.UNKNOWN_STATUS, 0))
            else:
                self._pumps.add(process, resume=True)
                self._watch_end(process)
        for key, fds in held.items():
            close_all(list(fds.values()))
            self._pumps.ended(key, None)
        self._pumps.settled()
