"""Answer one container's queries: UDP packets and TCP connections."""

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Coroutine
from typing import Any, Protocol

from orlop.engine.names.sockets import Sockets
from orlop.engine.names.turns import Turns
from orlop.network.dns.message import Query
from orlop.network.dns.respond import failure


class Knowing(Protocol):
    """The source of a listener's answers, about one container; *stream*: for TCP."""

    def respond(self, message: bytes, *, stream: bool) -> bytes | Query:
        """Return the answer (b"": send none), or the query to forward."""

    async def forward(self, query: Query, message: bytes, *, stream: bool) -> bytes:
        """Return another server's answer; always one, even if it reports a failure."""


_BATCH = 16  # packets that are answered in one turn
_FLOOD_BYTES = 64 * 768  # waiting bytes, as the kernel counts: 64 clients that wait are no flood
_MEMINFO, _MEMINFO_BYTES = 55, 36  # SO_MEMINFO, <asm-generic/socket.h>; <linux/sock_diag.h>
_FORWARD_S = 0.00015  # the processor time of forwarding one query
_MOST_BYTES = 4096  # of a query over UDP
_IN_FLIGHT = 100  # queries that are forwarded at the same time
_CONNECTIONS = 16
_IDLE_S = 10.0


class Listener:
    def __init__(self, sockets: Sockets, knowing: Knowing, turns: Turns) -> None:
        self.sockets = sockets
        self.opening = asyncio.Lock()  # addresses in answers are opened one after the other
        self._knowing = knowing
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: set[tuple[tuple[str, int], int, bytes]] = set()
        self._connections = 0
        self._closed = False
        self._loop.add_reader(sockets.udp, self._readable)
        self._loop.add_reader(sockets.tcp, self._accept)

    def close(self) -> None:
        """Stop answering, and release the namespace."""
        self._closed = True
        for one in (self.sockets.udp, self.sockets.tcp):
            self._loop.remove_reader(one)
        for task in self._tasks:
            task.cancel()
        self.sockets.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _readable(self) -> None:
        if self._answer_some() and self._is_flooded():
            self._loop.remove_reader(self.sockets.udp)
            self._turns.add(self._take_turn)

    def _take_turn(self) -> float | None:
        if self._closed:
            return None
        before = len(self._asked)
        if not self._answer_some() or not self._is_flooded():
            self._loop.add_reader(self.sockets.udp, self._readable)
            return None
        return (len(self._asked) - before) * _FORWARD_S

    def _is_flooded(self) -> bool:
        meminfo = self.sockets.udp.getsockopt(socket.SOL_SOCKET, _MEMINFO, _MEMINFO_BYTES)
        return int.from_bytes(meminfo[:4], sys.byteorder) > _FLOOD_BYTES

    def _answer_some(self) -> bool:
        """Answer the packets that have arrived; False if there are no more."""
        receive, reply, respond = (
            self.sockets.udp.recvfrom,
            self.sockets.reply,
            self._knowing.respond,
        )
        for _ in range(_BATCH):
            try:
                message, address = receive(_MOST_BYTES + 1)
            except OSError:  # no more packets
                return False
            if len(message) > _MOST_BYTES:
                continue
            answer = respond(message, stream=False)
            if isinstance(answer, bytes):
                if answer:
                    reply(answer, address)
            else:
                self._pass_on(answer, message, address)
        return True

    def _pass_on(self, query: Query, message: bytes, address: tuple[str, int]) -> None:
        key = (address, query.id, query.question)
        if key in self._asked:  # a repeated query gets the first one's answer
            return
        if len(self._asked) >= _IN_FLIGHT:
            self.sockets.reply(failure(query), address)
            return
        self._asked.add(key)
        self._spawn(self._ask(query, message, key))

    async def _ask(
        self, query: Query, message: bytes, key: tuple[tuple[str, int], int, bytes]
    ) -> None:
        try:
            answer = await self._knowing.forward(query, message, stream=False)
            self.sockets.reply(answer, key[0])
        finally:
            self._asked.discard(key)

    def _accept(self) -> None:
        try:
            client, _ = self.sockets.tcp.accept()
        except OSError:
            return
        if self._connections >= _CONNECTIONS:
            client.close()
            return
        client.settimeout(0)
        self._connections += 1
        self._spawn(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        """Answer one connection, query by query, until it ends or is idle for a while."""
        try:
            reader, writer = await asyncio.open_connection(sock=client, limit=1 << 16)
            try:
                while True:
                    async with asyncio.timeout(_IDLE_S):
                        await self._serve_one(reader, writer)
                    await asyncio.sleep(0)  # queries that have arrived would starve others
            finally:
                writer.transport.abort()
        except (OSError, EOFError):
            pass
        finally:
            self._connections -= 1
            with contextlib.suppress(OSError):
                client.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        message = await reader.readexactly(size)
        answer = self._knowing.respond(message, stream=True)
        if isinstance(answer, Query):
            answer = await self._knowing.forward(answer, message, stream=True)
        if not answer:
            raise EOFError
        writer.write(struct.pack("!H", len(answer)) + answer)
        await writer.drain()
