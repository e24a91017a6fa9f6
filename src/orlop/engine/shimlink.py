"""The engine's connections to the shim and to the stdio process."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from orlop.errors import InvalidArgumentError, OrlopError, UnavailableError, class_of
from orlop.shim.channel import close_all
from orlop.shim.client import Client

Message = dict[str, Any]


class CommandNotFoundError(InvalidArgumentError):
    """There is no such program in the container: exit code 127."""


class CommandNotExecutableError(InvalidArgumentError):
    """The program cannot be executed: exit code 126."""


class Link:
    """One connection, opened when first needed, and again after it broke.

    *on_event* is called with each event, *on_lost* once when the peer has gone.
    """

    def __init__(
        self,
        path: str,
        *,
        on_event: Callable[[Message], None] = lambda _: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._on_event = on_event
        self._on_lost = on_lost
        self._client: Client | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._parts: dict[int, list[Any]] = {}

    async def request(self, message: Message, fds: Sequence[int] = ()) -> Any:
        """Send *message* and return what was answered; descriptors that came along are in "fds".

        Raises the error that was answered; UnavailableError when the peer went
        away meanwhile, and nobody knows what became of the request.
        """
        client = self._client or self._connect()
        try:
            seq = client.post(message, fds)
        except UnavailableError:
            self._lose()
            seq = self._connect().post(message, fds)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[seq] = answer
        if message["op"] == "list":
            self._parts[seq] = []
        try:
            return await answer
        except asyncio.CancelledError:
            _let_go(answer)
            raise
        finally:
            self._waiting.pop(seq, None)
            self._parts.pop(seq, None)

    @property
    def waiting(self) -> int:
        """How many requests have no answer yet."""
        return len(self._waiting)

    def close(self) -> None:
        if self._client is not None:
            asyncio.get_running_loop().remove_reader(self._client.fileno())
            self._client.close()
            self._client = None

    def _connect(self) -> Client:
        self._client = Client(self._path)
        asyncio.get_running_loop().add_reader(self._client.fileno(), self._ready)
        return self._client

    def _ready(self) -> None:
        if self._client is None:
            return
        try:
            for message in self._client.received():
                self._take(message)
        except UnavailableError:
            self._lose()

    def _take(self, message: Message) -> None:
        seq = message.get("seq")
        if seq is None:
            self._on_event(message)
            return
        if message.get("more"):
            self._parts[seq].append(message["ok"])
            return
        answer, fds = self._waiting.get(seq), message.get("fds", [])
        if answer is None or answer.done():
            close_all(fds)
        elif "error" in message:
            close_all(fds)
            answer.set_exception(error_of(message["error"]))
        elif fds:
            answer.set_result({**message["ok"], "fds": fds})
        else:
            answer.set_result(self._parts.get(seq, message.get("ok")))

    def _lose(self) -> None:
        self.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(UnavailableError("the shim has gone", hint="try again"))
        self._waiting.clear()
        with contextlib.suppress(RuntimeError):
            self._on_lost()


def _let_go(answer: asyncio.Future[Any]) -> None:
    """Close what came with an answer that nobody gets any more."""
    if answer.done() and not answer.cancelled() and answer.exception() is None:
        result = answer.result()
        if isinstance(result, dict):
            close_all(result.get("fds", []))


def error_of(failure: Message) -> OrlopError:
    """Return the error that a protocol.Failure tells of, in words Docker's clients look for."""
    kind, message, hint = failure["kind"], failure["message"], failure.get("hint")
    if kind == "command_not_found":
        said = "executable file not found" in message or "no such file or directory" in message
        suffix = "" if said else ": executable file not found in $PATH"
        return CommandNotFoundError(message + suffix, hint=hint)
    if kind == "command_not_executable":
        suffix = "" if "permission denied" in message.lower() else ": permission denied"
        return CommandNotExecutableError(message.replace("Perm", "perm") + suffix, hint=hint)
    return class_of(kind)(message, hint=hint)
