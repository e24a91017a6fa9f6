"""Accept connections from other engines, on one port, without keeping state for strangers."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from orlop.engine.peers import handshake
from orlop.engine.peers.channel import BUFFER_BYTES, HANDSHAKE_S, Channel, welcome
from orlop.errors import AlreadyExistsError

log = logging.getLogger(__name__)

_MOST_STRANGERS = 64  # connections that have not yet proved the secret
_MOST_OF_ONE = 8  # the same, from one address
_REPORT_S = 60.0

Secrets = Callable[[str], bytes | None]
Accept = Callable[[str, Channel], Awaitable[None]]


class Listener:
    """A listening socket; a peer that knows a network's secret is passed to *accept*."""

    def __init__(self, secrets: Secrets, accept: Accept) -> None:
        self._secrets = secrets
        self._accept = accept
        self._strangers: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._refused, self._reported = 0, -_REPORT_S

    async def open(self, address: str, port: int) -> None:
        """Listen; OSError if the address does not exist, AlreadyExistsError if it is taken."""
        try:
            self._server = await asyncio.start_server(
                self._connected, address, port, limit=BUFFER_BYTES, backlog=128
            )
        except OSError as error:
            if error.errno == 98 or "in use" in str(error):  # asyncio may lose the number
                raise AlreadyExistsError(
                    f"port {port} of {address} is in use by another program",
                    hint="choose another with --opt port=N when the network is made",
                ) from error
            raise

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._admit(reader, writer)
        except asyncio.CancelledError:
            if not task.cancelling():
                raise
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass  # gone, or not a peer
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = str((writer.get_extra_info("peername") or ("",))[0])
        if self._strangers.total() >= _MOST_STRANGERS or self._strangers[source] >= _MOST_OF_ONE:
            self._refuse()
            return
        self._strangers[source] += 1
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                opening = await reader.readexactly(handshake.OPENING_BYTES)
                network = handshake.network_of(opening)
                if network is None:
                    self._refuse()
                    return
                channel = await welcome(reader, writer, opening, self._secrets(network))
        finally:
            self._strangers[source] -= 1
            if not self._strangers[source]:
                del self._strangers[source]
        if channel is None:
            self._refuse()
        else:
            await self._accept(network, channel)

    def _refuse(self) -> None:
        """Count it; the log gets at most one line a minute."""
        self._refused += 1
        now = asyncio.get_running_loop().time()
        if now - self._reported >= _REPORT_S:
            log.warning("refused strangers on the peers' port", extra={"count": self._refused})
            self._refused, self._reported = 0, now
