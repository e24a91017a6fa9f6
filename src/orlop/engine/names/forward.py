"""Forward queries to name servers, for names that the engine does not know.

Each query has its own socket, so a random port, and a random id. Only an answer to it, from
the server that was asked, is accepted. Servers are asked one after the other, the next one when
one fails or is slow, and the first one again, because packets get lost. A slow server is asked
last for a while.
"""

import asyncio
import secrets
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial

from orlop.network.dns.message import Code, Query, code_of, is_answer, truncated
from orlop.network.dns.respond import failure

#: Makes a socket connected to a server: SOCK_DGRAM, or SOCK_STREAM (perhaps still connecting).
Connect = Callable[[str, int], Awaitable[socket.socket]]
_Asking = Callable[[str], Awaitable[bytes | None]]

_PORT = 53
_IN_FLIGHT = 1024
_SLOW_AFTER_S = 1.0
_GIVE_UP_AFTER_S = 4.0  # clients ask again after 5
_REST_S = 10.0
_MOST_RESTING = 1000
_MOST_ASKED = 3  # as in the C library
_MOST_STRANGERS = 32  # wrong packets before we give up on a server
_ANSWER_SIZE = 65535


class Forwarder:
    def __init__(self) -> None:
        self._in_flight = 0
        self._resting: dict[str, float] = {}  # slow servers, with the end of their pause

    async def ask(
        self,
        servers: Sequence[str],
        query: Query,
        message: bytes,
        *,
        connect: Connect,
        stream: bool,
    ) -> bytes:
        """Return the answer of one of the *servers*, or our own failure."""
        if self._in_flight >= _IN_FLIGHT:
            return failure(query)
        self._in_flight += 1
        try:
            exchange = partial(_over_tcp if stream else _over_udp, connect, query.question)
            sent = secrets.token_bytes(2) + message[2:]
            answer = await self._first(partial(exchange, sent), self._in_order(servers))
        finally:
            self._in_flight -= 1
        if answer is None:
            return failure(query)
        answer = message[:2] + answer[2:]
        return answer if stream else truncated(answer, query)

    def _in_order(self, servers: Sequence[str]) -> list[str]:
        """Return the servers in order: slow ones last, and the first one once more."""
        now = time.monotonic()
        order = sorted(servers, key=lambda server: self._resting.get(server, 0.0) > now)
        return [*order[:_MOST_ASKED], order[0]]

    async def _first(self, asking: _Asking, servers: list[str]) -> bytes | None:
        """Return the first useful answer, or else one that reports a failure."""
        poor: bytes | None = None
        deadline = time.monotonic() + _GIVE_UP_AFTER_S
        for left, server in zip(range(len(servers) - 1, -1, -1), servers, strict=True):
            patience_s = deadline - time.monotonic()
            try:
                async with asyncio.timeout(min(patience_s, _SLOW_AFTER_S) if left else patience_s):
                    answer = await asking(server)
            except TimeoutError:
                self._rest(server)
                continue
            if answer is not None and code_of(answer) in _SAYS_SOMETHING:
                self._resting.pop(server, None)
                return answer
            poor = answer or poor
        return poor

    def _rest(self, server: str) -> None:
        if len(self._resting) >= _MOST_RESTING:
            self._resting.clear()
        self._resting[server] = time.monotonic() + _REST_S


_SAYS_SOMETHING = (Code.NOERROR, Code.NXDOMAIN)


async def _over_udp(connect: Connect, question: bytes, sent: bytes, server: str) -> bytes | None:
    loop = asyncio.get_running_loop()
    try:
        with await connect(server, socket.SOCK_DGRAM) as mine:
            mine.send(sent)
            for _ in range(_MOST_STRANGERS):
                answer = await loop.sock_recv(mine, _ANSWER_SIZE)
                if is_answer(answer, sent, question):
                    return answer
    except OSError:  # no server there, or unreachable
        pass
    return None


async def _over_tcp(connect: Connect, question: bytes, sent: bytes, server: str) -> bytes | None:
    try:
        answer = await _asked_over_tcp(connect, sent, server)
    except (OSError, EOFError):
        return None
    return answer if is_answer(answer, sent, question) else None


async def _asked_over_tcp(connect: Connect, sent: bytes, server: str) -> bytes:
    mine = await connect(server, socket.SOCK_STREAM)
    try:
        reader, writer = await asyncio.open_connection(sock=mine)
    except BaseException:
        mine.close()
        raise
    try:
        writer.write(struct.pack("!H", len(sent)) + sent)
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(size)
    finally:
        writer.close()


async def connect_from_host(server: str, type_: int) -> socket.socket:
    """Connect in this thread's network namespace."""
    return connected(server, type_)


def connected(server: str, type_: int) -> socket.socket:
    """Return a socket that is connected, or connecting; do not wait."""
    family, address = _resolved(server)
    made = socket.socket(family, type_ | socket.SOCK_NONBLOCK)
    try:
        made.connect(address)
    except BlockingIOError:
        pass
    except BaseException:
        made.close()
        raise
    return made


@lru_cache(256)
def _resolved(server: str) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    """Return family and socket address; for fe80::1%eth0 with the interface's current index."""
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    found = socket.getaddrinfo(server, _PORT, type=socket.SOCK_DGRAM, flags=numeric)
    family, _, _, _, address = found[0]
    return family, address  # type: ignore[return-value] # no other families have addresses as text
