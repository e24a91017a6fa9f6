"""N clients at once: each starts a sandbox, waits for its end, and starts the next."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from orlop.benchmark import machine
from orlop.benchmark.driver import PATIENCE_S
from orlop.errors import UnavailableError

T = TypeVar("T")

LONGEST_S = 180.0  # after which a load begins nothing new
_TURN_S = 0.1


@dataclass
class Wave(Generic[T]):
    """What came of it. Processor time is the whole machine's, less what it uses when idle."""

    done: list[T] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    makespan_s: float = 0.0
    cpu_s: float = 0.0
    engine_cpu_s: float = 0.0  # of it, that of an engine and its children, where it is known
    generator_cpu_s: float = 0.0  # of it, this process's
    clients_cpu_s: float = 0.0  # of it, command lines'

    @property
    def rate(self) -> float:
        """What was done in a second."""
        return len(self.done) / self.makespan_s if self.makespan_s else 0.0


def load(
    action: Callable[[], T],
    *,
    clients: int,
    count: int,
    idle: float | None = None,
    pulse: Callable[[], None] = lambda: None,
) -> Wave[T]:
    """Have *clients* threads do *action* until it was done *count* times in all.

    Meanwhile *pulse* is called, ten times a second; what it raises ends the load.

    With *idle*, the machine's own business, processor time is counted until the machine is
    quiet again: what an engine puts off counts, too. UnavailableError where nothing succeeds.
    """
    found: Wave[T] = Wave()
    crowd = _Crowd(action, found, count)
    cpu = machine.busy_s(), machine.generator_cpu_s(), machine.clients_cpu_s()
    begin = time.monotonic()
    crowd.run(clients, pulse)
    found.makespan_s = time.monotonic() - begin
    found.generator_cpu_s = machine.generator_cpu_s() - cpu[1]
    found.clients_cpu_s = machine.clients_cpu_s() - cpu[2]
    if idle is not None:
        machine.settle(idle)
        own_s = idle * (time.monotonic() - begin)
        found.cpu_s = machine.busy_s() - cpu[0] - own_s
    if not found.done:
        raise UnavailableError(f"nothing was done: {(found.failures or ['too slow'])[0]}")
    return found


def each(action: Callable[[str], object], names: Sequence[str], *, clients: int) -> None:
    """Do *action* with each of *names*, many at once; UnavailableError where one fails."""
    left = iter(names)
    lock = threading.Lock()

    def act() -> None:
        with lock:
            name = next(left)
        action(name)

    if names:
        failures = load(act, clients=clients, count=len(names)).failures
        if failures:
            raise UnavailableError(f"{len(failures)} of {len(names)} failed: {failures[0]}")


class _Crowd(Generic[T]):
    """Threads that share one number of what is still to be done."""

    def __init__(self, action: Callable[[], T], found: Wave[T], count: int) -> None:
        self._action = action
        self._found = found
        self._left = count
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def run(self, clients: int, pulse: Callable[[], None]) -> None:
        """Return when all is done; what hangs is left behind, and said."""
        threads = [
            threading.Thread(target=self._work, daemon=True, name=f"client-{number}")
            for number in range(min(clients, self._left))
        ]
        deadline = time.monotonic() + LONGEST_S
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                pulse()
                for thread in threads:
                    if thread.is_alive():
                        thread.join(_TURN_S)
                        break
                if time.monotonic() > deadline:
                    self._stopped.set()
                if time.monotonic() > deadline + PATIENCE_S:
                    raise UnavailableError(f"nothing has ended for {PATIENCE_S:g} seconds")
        finally:
            self._stopped.set()
            for thread in threads:  # what is under way is short, as a rule
                if thread.is_alive():
                    thread.join(_TURN_S)

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0 and not self._stopped.is_set()

    def _work(self) -> None:
        while self._take():
            try:
                self._found.done.append(self._action())
            except Exception as error:  # a client's thread has nobody else to tell
                self._found.failures.append(f"{type(error).__name__}: {error}")
