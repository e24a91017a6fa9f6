"""Named pipes that a client has made for a process's streams, as containerd's clients do.

The client may go and another come: unlike a socket a named pipe stays. What nobody reads fills
the pipe, then a queue, then the process waits; after a while the queue is thrown away, so that a
client who has gone holds no process up for ever.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from orlop.shim.attachment import FULL, LOW, PATIENCE_S, Attachment
from orlop.shim.loop import READ, WRITE, Loop

_BLOCK = 32 << 10
_LAST_PATIENCE_S = 60.0  # with what a process has left behind


class Fifos:
    """What Attachment is, for named pipes; they are ours from now on."""

    def __init__(self, loop: Loop, fds: Mapping[str, int]) -> None:
        self.framed: bool | None = False
        self.multiplex = False
        self.closed = False
        self.size = 0  # bytes queued
        self.on_room: Callable[[], None] | None = None
        self._loop = loop
        self._input = fds.get("stdin", -1)
        self._outputs = {name: fd for name, fd in fds.items() if name != "stdin"}
        self._queues: dict[str, deque[bytes]] = {name: deque() for name in self._outputs}
        self._progress = time.monotonic()
        self._ending = False
        self._on_input: Callable[[Fifos, bytes], None] | None = None
        self._on_gone: Callable[[Fifos], None] | None = None
        for fd in fds.values():
            os.set_blocking(fd, False)

    @property
    def streams(self) -> frozenset[str]:
        """Which output is wanted."""
        return frozenset(self._outputs)

    @property
    def wants_input(self) -> bool:
        """Whether input can come."""
        return self._input >= 0

    def begin(
        self,
        *,
        on_input: "Callable[[Fifos, bytes], None]",
        on_gone: "Callable[[Fifos], None]",
        use_keys: bool,
    ) -> None:
        """Start, as Attachment does; *use_keys* is ignored, for nobody can detach."""
        del use_keys
        self._on_input, self._on_gone = on_input, on_gone
        self.pause_input(pause=False)

    def on_waiting_gone(self, callback: "Callable[[Fifos], None]") -> None:
        """Call *callback* when it is dropped before begin()."""
        self._on_gone = callback

    def send(self, stream: str, data: bytes) -> None:
        """Queue output."""
        if self.closed or stream not in self._outputs:
            return
        if not self.size:
            self._progress = time.monotonic()
        self._queues[stream].append(data)
        self.size += len(data)
        self._flush(stream)

    def end(self, status: str | None = None) -> None:
        """No more output: close once everything queued is written."""
        del status
        self._ending = True
        if not self.size:
            self.drop()

    def drop(self) -> None:
        """Close now."""
        if self.closed:
            return
        self.closed = True
        self._close_input()
        for fd in self._outputs.values():
            self._loop.forget(fd)
            os.close(fd)
        self._queues.clear()
        self.size = 0
        if self._on_gone is not None:
            self._on_gone(self)

    def pause_input(self, *, pause: bool) -> None:
        """Stop reading while the process does not take it."""
        if self._input < 0:
            return
        if pause:
            self._loop.forget(self._input)
        else:
            self._loop.watch(self._input, self._read, events=READ)

    @property
    def stuck(self) -> bool:
        """Whether it is to be dropped. What is queued too long is thrown away before that."""
        idle_s = time.monotonic() - self._progress if self.size else 0.0
        if self._ending:
            return idle_s > _LAST_PATIENCE_S
        if self.size > FULL and idle_s > PATIENCE_S:
            self._discard()
        return False

    def _discard(self) -> None:
        for name, queue in self._queues.items():
            queue.clear()
            self._loop.forget(self._outputs[name])
        self.size = 0
        if self.on_room is not None:
            self.on_room()

    def _read(self, _events: int) -> None:
        try:
            data = os.read(self._input, _BLOCK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close_input()
        if self._on_input is not None:
            self._on_input(self, data)

    def _close_input(self) -> None:
        if self._input >= 0:
            self._loop.forget(self._input)
            os.close(self._input)
            self._input = -1

    def _flush(self, stream: str, _events: int = 0) -> None:
        queue, fd = self._queues[stream], self._outputs[stream]
        while queue:
            try:
                sent = os.write(fd, queue[0])
            except BlockingIOError:
                self._loop.watch(fd, partial(self._flush, stream), events=WRITE)
                return
            except OSError:
                self.drop()
                return
            self._progress = time.monotonic()
            self.size -= sent
            if sent < len(queue[0]):
                queue[0] = queue[0][sent:]
            else:
                queue.popleft()
        self._loop.forget(fd)
        if self._ending and not self.size:
            self.drop()
        elif self.size < LOW and self.on_room is not None:
            self.on_room()


Client = Attachment | Fifos
