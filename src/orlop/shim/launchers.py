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

from orlop.kernel.memory import shared_number
from orlop.kernel.process import clone3, pidfd_send_signal
from orlop.runtime.recipe.plan import ProcessRecipe, Recipe
from orlop.shim.launcher import MOST_BYTES, Exec, Forget, Learn, Made, Start, serve
from orlop.shim.loop import Loop, Timer

_SIGKILL = 9
_LONGEST_S = 20.0  # for one start

#: What is called with the answer to an order; with None where its launcher has died.
Done = Callable[[Made | None], None]


class _Known(NamedTuple):
    recipe: Recipe | ProcessRecipe
    fds: tuple[int, ...]


class _Launcher:
    """One process, with the orders that it has not answered."""

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
        self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MOST_BYTES)
        self.orders: deque[Done] = deque()
        self.limit = Timer(lambda: None)
        self.taught: set[int] = set()


class Launchers:
    """As many as there are processors; each order goes to the one with the fewest before it."""

    def __init__(self, loop: Loop, *, most: int | None = None) -> None:
        self._loop = loop
        self._most = most or len(os.sched_getaffinity(0))
        self._running: list[_Launcher] = []
        self._numbers: list[ctypes.c_int] = []  # shared memory is used again
        self._known: dict[int, _Known] = {}
        self._dead: list[_Launcher] = []

    @property
    def pids(self) -> set[int]:
        """Children of ours that nobody else waits for, and what they are making."""
        both = (*self._running, *self._dead)
        return {launcher.pid for launcher in both} | {
            launcher.made.value for launcher in both if launcher.orders
        }

    @property
    def waiting(self) -> int:
        """How many orders are not answered."""
        return sum(len(launcher.orders) for launcher in self._running)

    def know(self, number: int, recipe: Recipe | ProcessRecipe, fds: Sequence[int]) -> None:
        """Have launchers know the recipe *number*; its descriptors are ours from then on."""
        self._known[number] = _Known(recipe, tuple(fds))

    def forget(self, number: int) -> None:
        """Have it known no more."""
        known = self._known.pop(number, None)
        for fd in known.fds if known else ():
            os.close(fd)
        for launcher in self._running:
            if number in launcher.taught:
                launcher.taught.discard(number)
                self._send(launcher, Forget(number), ())

    def order(self, order: Start | Exec, fds: Sequence[int], done: Done) -> None:
        """Give an order; *fds* stay the caller's. OSError where no launcher can be had."""
        launcher = self._choose()
        known = self._known[order.recipe]
        if order.recipe not in launcher.taught:
            self._send(launcher, Learn(order.recipe, known.recipe), known.fds)
            launcher.taught.add(order.recipe)
        if not launcher.orders:
            self._begin(launcher)
        launcher.orders.append(done)
        self._send(launcher, order, fds)

    def close(self) -> None:
        """End all."""
        for launcher in list(self._running):
            self._end(launcher)
        self.reap(block=True)

    def reap(self, *, block: bool = False) -> None:
        """Take leave of those that have ended."""
        for launcher in list(self._dead):
            flags = os.WEXITED | (0 if block else os.WNOHANG)
            with suppress(ChildProcessError):
                if os.waitid(os.P_PIDFD, launcher.pidfd, flags) is None:
                    continue
            os.close(launcher.pidfd)
            self._dead.remove(launcher)

    def prepare(self) -> bool:
        """Start one launcher if fewer run than may; return whether more may."""
        if len(self._running) < self._most:
            self._make()
        return len(self._running) < self._most

    def _choose(self) -> _Launcher:
        if len(self._running) < self._most and all(one.orders for one in self._running):
            return self._make()
        return min(self._running, key=lambda launcher: len(launcher.orders))

    def _make(self) -> _Launcher:
        number = self._numbers.pop() if self._numbers else shared_number()
        launcher = _Launcher(number)
        self._running.append(launcher)
        launcher.channel.settimeout(5.0)
        self._loop.watch(launcher.channel.fileno(), lambda _: self._answered(launcher))
        return launcher

    def _send(self, launcher: _Launcher, order: object, fds: Sequence[int]) -> None:
        """Send it; to one that is dead is no error, for its end is on the way to us."""
        with suppress(BrokenPipeError, ConnectionError, TimeoutError):
            socket.send_fds(launcher.channel, [_pickle.dumps(order, 5)], list(fds))

    def _begin(self, launcher: _Launcher) -> None:
        launcher.limit.cancel()
        launcher.limit = self._loop.later(_LONGEST_S, lambda: self._end(launcher))

    def _answered(self, launcher: _Launcher) -> None:
        try:
            data = launcher.channel.recv(MOST_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(launcher)
            return
        done = launcher.orders.popleft()
        launcher.limit.cancel()
        if launcher.orders:
            self._begin(launcher)
        done(_pickle.loads(data))

    def _end(self, launcher: _Launcher) -> None:
        """Be done with one: kill it and what it was making, and tell whose orders are lost."""
        if launcher not in self._running:
            return
        self._running.remove(launcher)
        launcher.limit.cancel()
        self._loop.forget(launcher.channel.fileno())
        launcher.channel.close()
        with suppress(ProcessLookupError):
            pidfd_send_signal(launcher.pidfd, _SIGKILL)
        self._dead.append(launcher)
        orders, launcher.orders = launcher.orders, deque()
        if orders and (pid := launcher.made.value):
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, _SIGKILL)  # a child that nobody has reaped: it is the one
                os.waitpid(pid, 0)
        self.reap()
        self._numbers.append(launcher.made)
        for done in orders:
            done(None)
