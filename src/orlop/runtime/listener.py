"""The listener of a filter that notifies: from the child that loads it to the agent who answers.

Each call that the child makes once its filter is there may itself be notified, and wait
until somebody answers. So it is not the child that gives the descriptor away, but a
helper of its, which was made before the filter and shares its table of descriptors.

    child                     helper                    parent                agent
      | clone3(CLONE_FILES) ---->|                         |                    |
      | the number that is next >| watches that number     |                    |
      | seccomp(NEW_LISTENER)    |                         |                    |
      |                          | listener -------------->| state, listener -->|
      | reaps it <---------------| ends                    |                    |
      |<-------------------------------------- one byte ---|                    |

config-linux.md, "Seccomp" and "The Container Process State"; seccomp_unotify(2).
"""

import os
import socket
import time

from orlop.errors import UnavailableError
from orlop.kernel import seccomp
from orlop.kernel.process import Clone, clone3
from orlop.model import jsontext
from orlop.model.light import Any
from orlop.model.light_context import suppress
from orlop.model.oci import VERSION, State
from orlop.runtime.bundle import Bundle, Target
from orlop.runtime.failure import StepError
from orlop.runtime.seccomp import Filter
from orlop.runtime.state import state

_AGENT_TIMEOUT_S = 10.0
_PAUSE_S = 0.0002


class Listener:
    """What parent and child share while a process gets a filter that notifies."""

    def __init__(self, filter_: Filter, state: State) -> None:
        self._filter = filter_
        self._state = state
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def descriptors(self) -> tuple[int, int]:
        """Return both ends of the channel on which the listener is handed over."""
        return self._near.fileno(), self._far.fileno()

    def load(self) -> None:
        """In the child: load the filter, and return when its agent has the listener."""
        self._near.close()
        far, us = self._far.fileno(), os.getpid()
        numbers, told = os.pipe()
        helper = clone3(int(Clone.FILES))
        if not helper.pid:
            _help(numbers, self._far, parent=us)
        number = os.dup(told)  # the one that is next: nobody else opens anything here
        os.close(number)
        os.write(told, b"%d" % number)
        seccomp.load(self._filter.program, self._filter.flags)
        # As few calls as can be from here on; exec closes what we have opened.
        with suppress(OSError):  # a policy may forbid it
            os.waitid(os.P_PIDFD, helper.pidfd, os.WEXITED)
        if not os.read(far, 1):
            raise StepError("the seccomp agent was not reached")

    def deliver(self, what: str, pid: int) -> None:
        """In the parent: give the listener of process *pid* to its agent.

        A child that has failed before that tells by its report.

        Raises:
            UnavailableError: the agent cannot be reached; *what* begins the message.
        """
        self._far.close()
        with self._near as near:
            _, fds, _, _ = socket.recv_fds(near, 16, 1)
            if not fds:
                return
            try:
                self._send(fds[0], pid)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise UnavailableError(
                    f"{what}: seccomp agent at {self._filter.listener}: {reason}",
                    hint="it has to listen there before the container starts",
                ) from error
            finally:
                os.close(fds[0])
            near.send(b"g")

    def close(self) -> None:
        """Close what is still open on the parent's side."""
        self._near.close()
        self._far.close()

    def _send(self, listener: int, pid: int) -> None:
        message: dict[str, Any] = {"ociVersion": VERSION, "fds": ["seccompFd"], "pid": pid}
        if self._filter.metadata:
            message["metadata"] = self._filter.metadata
        state = self._state.copy()
        state.setdefault("pid", pid)
        message["state"] = state
        data = jsontext.dumps(message).encode(errors="surrogateescape")
        folder = os.open(os.path.dirname(self._filter.listener) or ".", os.O_PATH | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
                agent.settimeout(_AGENT_TIMEOUT_S)
                # By its folder, for a path can be longer than an address. unix(7)
                name = os.path.basename(self._filter.listener)
                agent.connect(f"/proc/self/fd/{folder}/{name}")
                sent = socket.send_fds(agent, [data], [listener])
                if sent < len(data):  # an agent that has all may have hung up
                    agent.sendall(data[sent:])
        finally:
            os.close(folder)


def for_container(filter_: Filter, bundle: Bundle) -> Listener:
    """Return the listener of a container's first process."""
    told = state(bundle.config, container=bundle.id, status="creating", pid=0, bundle=bundle.path)
    return Listener(filter_, told)


def for_exec(filter_: Filter, target: Target) -> Listener:
    """Return the listener of a later process in *target*."""
    told = state(
        target.config,
        container=target.id,
        status="running",
        pid=target.pid,
        bundle=target.bundle,
    )
    return Listener(filter_, told)


def _help(numbers: int, parent_socket: socket.socket, *, parent: int) -> None:
    """Give away the descriptor that the child is about to get, and end; end, too, if it does."""
    try:
        number = int(os.read(numbers, 16))
        while os.getppid() == parent:
            try:
                socket.send_fds(parent_socket, [b"l"], [number])
                break
            except OSError:  # it is not there yet
                time.sleep(_PAUSE_S)
    finally:
        os._exit(0)
