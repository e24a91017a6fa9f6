"""The launchers that there are, from the shim's side: started when needed, taught, replaced."""

from __future__ import annotations

import _pickle
import ctypes
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from orlop.errors import UnsupportedError
from orlop.kernel.memory import shared_number
from orlop.kernel.process import clone3, pidfd_send_signal
from orlop.kernel.procstat import FORKED, read_stat
from orlop.model.pool import Stock, Tally
from orlop.runtime.recipe.recipe import ProcessRecipe, Recipe
from orlop.shim.channel import widen
from orlop.shim.launcher import MOST_BYTES, Exec, Forget, Learn, Made, Start, serve
from orlop.shim.loop import Loop, Timer

_SIGKILL = 9
_LONGEST_S = 20.0  # for one start
_SLOW_S = 0.2  # a start that takes longer keeps its launcher from others
_MOST_SLOW = 64  # launchers besides the usual ones
_AGAIN_S = 0.001  # first pause before a killed child is looked at again; then it doubles
_MOST_PAUSE_S = 0.5

#: What is called with the answer to an order; with None where its launcher has died before the
#: program ran, and what it was making as well, unless that does not come to its end.
Done = Callable[[Made | None], None]


class _Known(NamedTuple):
    recipe: Recipe | ProcessRecipe
    fds: tuple[int, ...]


class _Waiting(NamedTuple):
    """An order that no launcher has yet; *fds* are copies of ours unless they are *held*."""

    order: Start | Exec
    fds: tuple[int, ...]
    done: Done
    held: bool

    def close(self) -> None:
        if not self.held:
            _close(self.fds)


class _Launcher:
    """One process, with the order that it has not answered."""

    def __init__(self, made: ctypes.c_int) -> None:
        self.made = made
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                cloned = clone3(0)
            except BaseException:
                self.channel.close()
                raise
            if not cloned.pid:
                serve(theirs.fileno(), made)
        self.pid, self.pidfd = cloned
        self.channel.settimeout(0)
        widen(self.channel)
        self.order: Start | Exec | None = None
        self.done: Done | None = None
        self.slow_s = 0.0
        self.timer = Timer(lambda: None)
        self.taught: set[int] = set()


class Launchers:
    """As many as there are processors; each has one order at a time, the others wait here.

    So whoever dies takes no other's order along. Where one is slow, since its child is
    throttled, frozen or stopped, another takes its place meanwhile.
    """

    def __init__(self, loop: Loop, *, most: int | None = None) -> None:
        self._loop = loop
        self._most = most or len(os.sched_getaffinity(0))
        self._running: list[_Launcher] = []
        self._numbers: list[ctypes.c_int] = []  # shared memory is used again
        self._known: dict[int, _Known] = {}
        self._numbered = 0
        self._dead: list[_Launcher] = []
        self._killed: set[int] = set()  # children of the dead, to be reaped
        self._queue: deque[_Waiting] = deque()
        self._tally = Tally()

    @property
    def pids(self) -> set[int]:
        """Children of ours that nobody else waits for, and what they are making."""
        both = (*self._running, *self._dead)
        making = {launcher.made.value for launcher in both if launcher.done}
        return {launcher.pid for launcher in both} | making | self._killed

    @property
    def stock(self) -> Stock:
        """How many have nothing to do, beside how many there are to be."""
        idle = sum(launcher.done is None for launcher in self._running)
        return self._tally.stock(ready=idle, most=self._most)

    @property
    def waiting(self) -> int:
        """How many orders are not answered."""
        return len(self._queue) + sum(launcher.done is not None for launcher in self._running)

    def know(self, recipe: Recipe | ProcessRecipe, fds: Sequence[int]) -> int:
        """Have launchers know a recipe, and return its number; its *fds* are ours from then on."""
        self._numbered += 1
        self._known[self._numbered] = _Known(recipe, tuple(fds))
        return self._numbered

    def forget(self, number: int) -> None:
        """Have it known no more."""
        known = self._known.pop(number, None)
        for fd in known.fds if known else ():
            os.close(fd)
        for launcher in list(self._running):
            if number in launcher.taught:
                launcher.taught.discard(number)
                try:
                    self._send(launcher, Forget(number), ())
                except BlockingIOError:  # it has not listened for long
                    self._end(launcher)

    def order(
        self, order: Start | Exec, fds: Sequence[int], done: Done, *, held: bool = False
    ) -> None:
        """Give an order; *fds* stay the caller's, who has *held* them until *done* is called.

        If not, they are copied where the order has to wait.

        Raises:
            UnsupportedError: it is too long for a message.
            OSError: no launcher can be had.
        """
        launcher = None if self._queue else self._idle()
        self._tally.count(hit=launcher is not None)
        if launcher is None and not self._queue:
            launcher = self._another()
        if launcher is not None:
            self._give(launcher, order, fds, done)
            return
        self._queue.append(_Waiting(order, tuple(fds) if held else _copies(fds), done, held))

    def pid_of(self, order: Start | Exec) -> int:
        """Return the process that is being made by *order*; 0 if there is none, or none yet."""
        making = (one.made.value for one in (*self._running, *self._dead) if one.order is order)
        return next(making, 0)

    def close(self) -> None:
        """End all."""
        queue, self._queue = self._queue, deque()
        for waiting in queue:
            waiting.close()
            waiting.done(None)
        for launcher in list(self._running):
            self._end(launcher)
        for launcher in list(self._dead):
            self._gone(launcher, block=True)

    def prepare(self) -> bool:
        """Start one launcher if there are recipes and too few run; return whether more may."""
        if self._known and len(self._running) < self._most:
            self._make()
        return bool(self._known) and len(self._running) < self._most

    def _free(self) -> _Launcher | None:
        """Return one that has nothing to do, made if there may be more of them."""
        return self._idle() or self._another()

    def _idle(self) -> _Launcher | None:
        return next((one for one in self._running if one.done is None), None)

    def _another(self) -> _Launcher | None:
        slow = sum(launcher.slow_s > 0 for launcher in self._running)
        if len(self._running) < self._most + min(slow, _MOST_SLOW):
            return self._make()
        return None

    def _make(self) -> _Launcher:
        number = self._numbers.pop() if self._numbers else shared_number()
        launcher = _Launcher(number)
        self._running.append(launcher)
        self._loop.watch(launcher.channel.fileno(), lambda _: self._answered(launcher))
        self._loop.watch(launcher.pidfd, lambda _: self._gone(launcher))
        return launcher

    def _give(
        self, launcher: _Launcher, order: Start | Exec, fds: Sequence[int], done: Done
    ) -> None:
        known = self._known[order.recipe]
        if order.recipe not in launcher.taught:
            self._send(launcher, Learn(order.recipe, known.recipe), known.fds)
            launcher.taught.add(order.recipe)
        launcher.made.value = 0  # else that of the order before it
        self._send(launcher, order, fds)
        launcher.order, launcher.done = order, done
        launcher.slow_s = 0.0
        launcher.timer = self._loop.later(_SLOW_S, lambda: self._looked_at(launcher))

    def _send(self, launcher: _Launcher, order: object, fds: Sequence[int]) -> None:
        """Send it; to one that is dead is no error, for its end is on the way to us."""
        data = _pickle.dumps(order, 5)
        if len(data) > MOST_BYTES:
            raise UnsupportedError(f"{len(data)} bytes are too many for a launcher")
        with suppress(BrokenPipeError, ConnectionError):
            socket.send_fds(launcher.channel, [data], list(fds))

    def _looked_at(self, launcher: _Launcher) -> None:
        """See how one that is slow gets on, and let others have another in its place."""
        launcher.slow_s += _SLOW_S
        if launcher.slow_s > _LONGEST_S:
            self._end(launcher)
            return
        pid = launcher.made.value
        if pid and _is_stopped(pid):  # by a process in its sandbox
            os.kill(pid, _SIGKILL)
        launcher.timer = self._loop.later(_SLOW_S, lambda: self._looked_at(launcher))
        self._go_on()

    def _go_on(self) -> None:
        """Give waiting orders to launchers that are free."""
        while self._queue:
            try:
                launcher = self._free()
            except OSError:
                if self._running:
                    return
                launcher = None
            if launcher is None and self._running:
                return
            waiting = self._queue.popleft()
            try:
                if launcher is None or waiting.order.recipe not in self._known:
                    waiting.done(None)
                else:
                    self._give(launcher, waiting.order, waiting.fds, waiting.done)
            except (OSError, UnsupportedError):
                waiting.done(None)
            finally:
                waiting.close()

    def _answered(self, launcher: _Launcher) -> None:
        try:
            data = launcher.channel.recv(MOST_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.forget(launcher.channel.fileno())
            self._end(launcher)
            return
        done, launcher.done = launcher.done, None
        launcher.order = None
        launcher.timer.cancel()
        launcher.slow_s = 0.0
        try:
            self._go_on()
        finally:
            assert done is not None
            done(_pickle.loads(data))
        if launcher.done is None and len(self._running) > self._most:
            self._end(launcher)

    def _end(self, launcher: _Launcher) -> None:
        """Be done with one: kill it. Whose order is lost is told once it is gone."""
        if launcher not in self._running:
            return
        self._running.remove(launcher)
        launcher.timer.cancel()
        with suppress(ProcessLookupError):
            pidfd_send_signal(launcher.pidfd, _SIGKILL)
        self._dead.append(launcher)
        self._go_on()

    def _gone(self, launcher: _Launcher, *, block: bool = False) -> None:
        """Reap one that is dead, and see what it has left.

        Its channel does not tell: a child that is on its way holds the other end as well.
        """
        flags = os.WEXITED | (0 if block else os.WNOHANG)
        with suppress(ChildProcessError):
            if os.waitid(os.P_PIDFD, launcher.pidfd, flags) is None:
                return
        self._end(launcher)
        self._loop.forget(launcher.pidfd)
        self._loop.forget(launcher.channel.fileno())
        os.close(launcher.pidfd)
        try:
            if launcher.done:  # it may have answered
                self._answered(launcher)
        finally:
            launcher.channel.close()
            self._dead.remove(launcher)
            self._numbers.append(launcher.made)
        pid, done = launcher.made.value, launcher.done
        if done and pid and _has_executed(pid):
            done(Made(pid, b"", is_commands=False))
        elif done and pid:
            with suppress(ProcessLookupError):
                os.kill(pid, _SIGKILL)  # nobody has reaped it: it is the one
            self._killed.add(pid)
            self._reap(pid, done)
        elif done:
            done(None)

    def _reap(self, pid: int, done: Done | None, pause_s: float = _AGAIN_S) -> None:
        """Reap a child that was killed, and tell. Until then its sandbox has no end either.

        One that stands still in a frozen cgroup ends when that is thawed: it is waited for,
        but not by who has asked for it.
        """
        try:
            has_ended = os.waitpid(pid, os.WNOHANG) != (0, 0)
        except ChildProcessError:
            has_ended = True
        is_told = has_ended or pause_s >= _MOST_PAUSE_S
        if has_ended:
            self._killed.discard(pid)
        else:
            left, longer = None if is_told else done, min(2 * pause_s, _MOST_PAUSE_S)
            self._loop.later(pause_s, lambda: self._reap(pid, left, longer))
        if done is not None and is_told:
            done(None)


def _is_stopped(pid: int) -> bool:
    try:
        return read_stat(pid)[0] in (b"T", b"t")
    except OSError:
        return False


def _has_executed(pid: int) -> bool:
    """Whether a child that nobody has reaped has come to its program."""
    return not int(read_stat(pid)[6]) & FORKED


def _copies(fds: Sequence[int]) -> tuple[int, ...]:
    copies: list[int] = []
    try:
        copies.extend(map(os.dup, fds))
    except BaseException:
        _close(copies)
        raise
    return tuple(copies)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
