"""The engine's connections to the shim and to the stdio process."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from orlop import errors
from orlop.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    OrlopError,
    UnavailableError,
)
from orlop.shim.channel import close_all
from orlop.shim.client import Client

Message = dict[str, Any]

_PATIENCE_S = 20.0  # with who is started in the place of a peer that was lost
_PAUSE_S = 0.01
_TRIES = 3


class Link:
    """One connection, opened when first needed, and again after it broke.

    *greeting* is what is said first on each. *on_event* is called with each event, *on_lost*
    once when the peer has gone: somebody is to start another, for which requests then wait.
    """

    def __init__(
        self,
        path: str,
        *,
        greeting: Message | None = None,
        on_event: Callable[[Message], None] = lambda _: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._greeting = greeting
        self._on_event = on_event
        self._on_lost = on_lost
        self.losses = 0  # of peers
        self._awaited_until_s = 0.0
        self._reaching = asyncio.Lock()
        self._client: Client | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._parts: dict[int, list[Any]] = {}

    async def request(self, message: Message, fds: Sequence[int] = ()) -> Any:
        """Send *message* and return what was answered; descriptors that came along are in "fds".

        Raises the error that was answered; UnavailableError when the peer went
        away meanwhile, and nobody knows what became of the request.
        """
        client = self._client or await self._reach()
        try:
            seq = client.post(message, fds)
        except UnavailableError:
            self._lose(client)
            seq = (await self._reach()).post(message, fds)
        return await self._answer(seq, is_list=message["op"] == "list")

    async def settle(self, message: Message) -> Any:
        """As request(), of what may be done twice: again where the peer went away meanwhile."""
        tries = _TRIES
        while True:
            losses, tries = self.losses, tries - 1
            try:
                answer = await self.request(message)
            except UnavailableError:
                if self.losses == losses or not tries:
                    raise
            else:
                if self.losses == losses:
                    return answer

    async def _answer(self, seq: int, *, is_list: bool = False) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[seq] = answer
        if is_list:
            self._parts[seq] = []
        try:
            return await answer
        except asyncio.CancelledError:
            _let_go(answer)
            raise
        finally:
            if self._waiting.get(seq) is answer:  # and not that of another connection
                del self._waiting[seq]
                self._parts.pop(seq, None)
            del answer  # its error names this frame: a cycle that would hold the whole request

    @property
    def waiting(self) -> int:
        """How many requests have no answer yet."""
        return len(self._waiting)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            _drop(client)

    async def _reach(self) -> Client:
        """Return a connection; where the peer was lost, to the next, for which it waits."""
        async with self._reaching:
            while self._client is None:
                try:
                    self._client = await self._connect()
                except UnavailableError:
                    if asyncio.get_running_loop().time() >= self._awaited_until_s:
                        raise
                    await asyncio.sleep(_PAUSE_S)
            return self._client

    async def _connect(self) -> Client:
        """Return a connection to who has answered the greeting: that he listens proves nothing."""
        client = Client(self._path)
        asyncio.get_running_loop().add_reader(client.fileno(), self._ready, client)
        try:
            if self._greeting is not None:
                await self._answer(client.post(self._greeting))
        except BaseException:
            _drop(client)
            raise
        if client.fileno() < 0:  # it was lost at once
            raise UnavailableError("the shim has gone", hint="try again")
        return client

    def _ready(self, client: Client) -> None:
        try:
            for message in client.received():
                self._take(message)
        except UnavailableError:
            self._lose(client)

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

    def _lose(self, client: Client) -> None:
        if client.fileno() < 0:  # somebody else has seen it
            return
        _drop(client)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(UnavailableError("the shim has gone", hint="try again"))
        self._waiting.clear()
        self._parts.clear()
        if client is not self._client:  # it was not even reached
            return
        self._client = None
        self.losses += 1
        self._awaited_until_s = asyncio.get_running_loop().time() + _PATIENCE_S
        with contextlib.suppress(RuntimeError):
            self._on_lost()


def _drop(client: Client) -> None:
    if client.fileno() >= 0:
        asyncio.get_running_loop().remove_reader(client.fileno())
        client.close()


def _let_go(answer: asyncio.Future[Any]) -> None:
    """Close what came with an answer that nobody gets any more."""
    if answer.done() and not answer.cancelled() and answer.exception() is None:
        result = answer.result()
        if isinstance(result, dict):
            close_all(result.get("fds", []))


def error_of(failure: Message) -> OrlopError:
    """Return the error that *failure* tells of, in words Docker's command line looks for."""
    error = errors.error_of(failure)
    if isinstance(error, CommandNotFoundError):
        said = ("executable file not found", "no such file or directory")
        if not any(words in error.args[0] for words in said):
            error.args = (f"{error.args[0]}: executable file not found in $PATH",)
    elif isinstance(error, CommandNotExecutableError):
        message = error.args[0].replace("Perm", "perm")
        error.args = (
            message if "permission denied" in message else f"{message}: permission denied",
        )
    return error
