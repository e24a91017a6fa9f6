"""How a shim ends: for good, or by going on as a shim of another build.

    launch.launch                      shim of before
      | renew {words, environment} + the interpreter's copy
      |----------------------------------->|  lets go of the stdio process, which holds all
      |               ok                   |
      |<-----------------------------------|  execve: same process, lock and children
      |                                    |
      |             hello                  |  adopts what runs, as after a kill
      |----------------------------------->|

It stays the parent of its containers, so that no exit status is lost on any kernel.
"""

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from orlop.errors import WrongStateError
from orlop.shim.channel import LATER, Channel, Message
from orlop.shim.loop import Loop
from orlop.shim.process import Process
from orlop.shim.pumps import Pumps
from orlop.shim.spawns import Spawns
from orlop.shim.starts import Starts

_CHANGED_SIGNALS = (signal.SIGPIPE, signal.SIGINT)  # by Python; the rest are as launch.py set them


class Successor(NamedTuple):
    """The program as which this process goes on."""

    interpreter: int  # descriptor
    words: list[str]
    environment: dict[str, str]

    def begin(self, lock: int) -> NoReturn:
        """Become it; it is told the descriptor *lock*, by which it is the folder's only shim."""
        os.set_inheritable(lock, True)  # noqa: FBT003 (it takes no keyword)
        for number in _CHANGED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        program = f"/proc/self/fd/{self.interpreter}"
        os.execve(program, [*self.words, str(lock)], self.environment)


class Ending:
    """Answers the requests that end a shim. *is_busy* tells whether anything is under way."""

    def __init__(
        self,
        loop: Loop,
        processes: Mapping[str, Process],
        *,
        pumps: Pumps,
        starts: Starts,
        spawns: Spawns,
        is_busy: Callable[[], bool],
    ) -> None:
        self.successor: Successor | None = None
        self._loop = loop
        self._processes = processes
        self._pumps = pumps
        self._starts = starts
        self._spawns = spawns
        self._is_busy = is_busy

    def shut_down(self, channel: Channel, message: Message) -> Any:
        """End shim and stdio process; with force, the containers are left to a next shim."""
        for number, what in ((len(self._processes), "processes"), (len(self._pumps.held), "pods")):
            if number and not message.get("force"):
                raise WrongStateError(f"{number} {what} are running", hint="stop them first")
        return self._leave(channel, message)

    def renew(self, channel: Channel, message: Message) -> Any:
        """Go on as another program, unless something would be lost by that."""
        processes = self._processes.values()
        spawned = sum(process.spawn is not None for process in processes)
        if spawned:  # they are in no record
            raise WrongStateError(f"{spawned} processes of sandboxes run", hint="close them first")
        if self._is_busy() or any(process.starting is not None for process in processes):
            raise WrongStateError("something is being started", hint="try again")
        interpreter = message["fds"].pop()
        self.successor = Successor(interpreter, message["words"], message["environment"])
        return self._leave(channel, message)

    def _leave(self, channel: Channel, message: Message) -> Any:
        channel.send({"seq": message.get("seq"), "ok": None})
        self._pumps.shut_down(end=not self._processes)
        self._starts.ahead.close()
        self._spawns.close()
        self._loop.stop()
        return LATER
