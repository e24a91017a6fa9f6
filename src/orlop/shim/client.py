"""Talking to the shim or the stdio process: for an event loop, or blocking for tests and tools.

Descriptors that come with a message are in its "fds", and the reader's to close.
"""

from collections.abc import Iterator, Sequence

from orlop.errors import InvalidArgumentError, UnavailableError
from orlop.shim.channel import Message, connect, encode, receive_datagram, send_datagram

_SEND_S = 5.0


class Client:
    """One connection. For an event loop: fileno(), post() and received(); else call()."""

    def __init__(self, path: str) -> None:
        """Connect to the socket at *path*; UnavailableError where nobody listens."""
        try:
            self._socket = connect(path)
        except OSError as error:
            raise UnavailableError(f"nobody listens on {path}: {error.strerror}") from error
        self._seq = 0
        self.events: list[Message] = []  # that came while call() waited for its answer

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def post(self, message: Message, fds: Sequence[int] = ()) -> int:
        """Send a request and return its number; the answer comes with the same "seq".

        UnavailableError when the other side has gone; InvalidArgumentError when the
        message is longer than channel.MAX_MESSAGE. It blocks only where a few hundred
        requests wait unread, which the peer's loop does not let happen.
        """
        self._seq += 1
        self._socket.settimeout(_SEND_S)
        try:
            data = encode({**message, "seq": self._seq})
        except ValueError as error:
            raise InvalidArgumentError(f"command and environment are too long: {error}") from None
        try:
            send_datagram(self._socket, data, fds)
        except OSError as error:
            raise UnavailableError(f"the shim has gone: {error.strerror}") from error
        return self._seq

    def received(self) -> Iterator[Message]:
        """Yield the messages that are there, without waiting. UnavailableError at the end."""
        self._socket.settimeout(0)
        while True:
            try:
                message = self._receive()
            except BlockingIOError:
                return
            yield message

    def call(
        self, message: Message, fds: Sequence[int] = (), *, timeout_s: float = 30.0
    ) -> Message:
        """Send and wait for the whole answer: {"ok": …} or {"error": errors.failure_of()}.

        An answer in parts is {"ok": [part, …]}. Events that come meanwhile are
        kept in `events`. TimeoutError.
        """
        seq = self.post(message, fds)
        self._socket.settimeout(timeout_s)
        parts = []
        while True:
            answer = self._receive()
            if answer.get("seq") != seq:
                self.events.append(answer)
            elif answer.get("more"):
                parts.append(answer["ok"])
            elif message["op"] == "list" and "ok" in answer:
                return {"ok": parts}
            else:
                return answer

    def wait_event(self, *, timeout_s: float = 30.0) -> Message:
        """Return the next event, waiting for it. TimeoutError."""
        if self.events:
            return self.events.pop(0)
        self._socket.settimeout(timeout_s)
        return self._receive()

    def _receive(self) -> Message:
        try:
            received = receive_datagram(self._socket)
        except (ConnectionError, ValueError) as error:
            raise UnavailableError("the shim has gone") from error
        if received is None:
            raise UnavailableError("the shim has gone")
        message, fds = received
        if fds:
            message["fds"] = fds
        return message
