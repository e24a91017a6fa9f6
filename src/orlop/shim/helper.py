"""A fork of the shim that does one thing which takes longer than the shim may.

    shim                        helper
      | socket pair, fork         |
      |-------------------------->| works; may say what it has come to
      | on_message                |
      |<--------------------------|
      | and be told to go on      |
      |-------------------------->|
      |                           | its outcome: {"ok": …} or {"error": errors.failure_of()}
      |<--------------------------|
      | reaped, on_end            | ends

It lives no longer than the shim wants to hear of it: who says something into a
closed socket, or waits there for a word, ends. What it was the parent of is the
shim's then, a subreaper.
"""

import os
import socket
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from orlop.errors import UnavailableError
from orlop.shim.channel import Channel, Message, encode, receive_datagram, send_datagram
from orlop.shim.failure import failure
from orlop.shim.loop import Loop

_SIGKILL = 9

#: What a helper does: with its end of the socket pair, which is for ask().
Work = Callable[[socket.socket], Any]


class Helper:
    """The shim's side. *on_end* gets the outcome, {} where it ended without one."""

    def __init__(
        self,
        loop: Loop,
        work: Work,
        *,
        keep: Sequence[int],
        on_message: Callable[["Helper", Message, list[int]], None],
        on_end: Callable[[Message], None],
    ) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._outcome: Message = {}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = os.fork()
            if self.pid == 0:
                _serve(theirs, work, keep)
        self._channel = Channel(loop, ours, on_message=self._heard, on_close=self._ended)

    def consent(self) -> None:
        """Let it go on."""
        self._channel.send({})

    def dismiss(self) -> None:
        """Have it end in its own time, and hear no more of it: an orphan like others."""
        self._channel.close()

    def kill(self) -> None:
        """End it; on_end() follows."""
        os.kill(self.pid, _SIGKILL)

    def _heard(self, _channel: Channel, message: Message, fds: list[int]) -> None:
        if "ok" in message or "error" in message:
            self._outcome = message
        else:
            self._on_message(self, message, fds)

    def _ended(self, _channel: Channel) -> None:
        os.kill(self.pid, _SIGKILL)  # one that has talked nonsense
        os.waitpid(self.pid, 0)
        self._on_end(self._outcome)


def ask(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """In a helper: say *message*, and wait to be let go on. UnavailableError if we are not."""
    send_datagram(sock, encode(message), fds)
    if receive_datagram(sock) is None:
        raise UnavailableError("the shim has gone", hint="try again")


def _serve(sock: socket.socket, work: Work, keep: Sequence[int]) -> NoReturn:
    try:
        close_others({0, 1, 2, sock.fileno(), *keep})
        try:
            outcome = {"ok": work(sock)}
        except Exception as error:
            outcome = {"error": failure(error)}
        with suppress(BrokenPipeError):  # the shim has gone, or does not want to know
            send_datagram(sock, encode(outcome), ())
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(0)


def close_others(keep: set[int]) -> None:
    """Close what the shim has open: an end of a pipe would keep others from seeing its end."""
    before = 0
    for fd in sorted(keep):
        if before < fd:  # closerange(0, 0) would close all
            os.closerange(before, fd)
        before = fd + 1
    os.closerange(before, 1 << 20)
