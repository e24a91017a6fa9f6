"""A connection between two engines that have proved that they know the network's secret.

After the handshake each message is 4 bytes of length, the message, and a 32-byte tag, which
needs the secret, and is valid only for this message at this position of this connection.
Messages are not encrypted, just as the network's packets are not.
"""

import asyncio
import secrets
import socket

from orlop.engine.peers import handshake
from orlop.engine.peers.handshake import Keys
from orlop.engine.peers.messages import MOST_FRAME_BYTES, AnyMessage, decode, encode
from orlop.errors import CorruptError, PermissionDeniedError, UnavailableError

BUFFER_BYTES = 16 << 10
HANDSHAKE_S = 5.0
_TAG_BYTES = 32
_MOST_WAITING_BYTES = 8 << 20  # a peer that does not read is disconnected


class Channel:
    """Messages in order, each exactly once; after an error the channel is closed."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        sending: bytes,
        receiving: bytes,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._sending, self._receiving = sending, receiving
        self._sent = self._received = 0

    @property
    def local_address(self) -> str:
        return _address(self._writer.get_extra_info("sockname"))

    @property
    def peer_address(self) -> str:
        return _address(self._writer.get_extra_info("peername"))

    def send(self, message: AnyMessage) -> None:
        """Queue *message*; UnavailableError if the peer has not read for too long."""
        payload = encode(message)
        tag = handshake.tag(self._sending, self._sent, payload)
        self._sent += 1
        if self._writer.transport.get_write_buffer_size() > _MOST_WAITING_BYTES:
            self.close()
            raise UnavailableError(f"the peer {self.peer_address} does not read")
        self._writer.write(len(payload).to_bytes(4, "big") + payload + tag)

    async def receive(self) -> AnyMessage:
        """Return the next message; UnavailableError at the end, CorruptError for a forged one."""
        try:
            length = int.from_bytes(await self._reader.readexactly(4), "big")
            if length > MOST_FRAME_BYTES:
                raise CorruptError("a peer's message is too long")
            data = await self._reader.readexactly(length + _TAG_BYTES)
        except (asyncio.IncompleteReadError, OSError):
            raise UnavailableError("the peer has closed the connection") from None
        payload, tag = data[:length], data[length:]
        if not handshake.is_same(tag, handshake.tag(self._receiving, self._received, payload)):
            raise CorruptError("a message on a peer's connection is forged, or was sent before")
        self._received += 1
        return decode(payload)

    async def drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError:
            raise UnavailableError("the peer has closed the connection") from None

    def close(self) -> None:
        """Close at once; the last messages may be lost."""
        self._writer.transport.abort()

    async def finish(self) -> None:
        """Close after everything is sent."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                self._writer.close()
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self.close()


async def dial(
    address: tuple[str, int], network: str, secret: bytes, *, local: str = ""
) -> Channel:
    """Connect to a member. OSError, or PermissionDeniedError if it does not know the secret."""
    reader, writer = await asyncio.open_connection(
        *address, limit=BUFFER_BYTES, local_addr=(local, 0) if local else None
    )
    try:
        _tune(writer)
        opening = handshake.opening(network)
        writer.write(opening)
        nonce = await reader.readexactly(handshake.NONCE_BYTES)
        keys = handshake.keys(secret, opening, nonce)
        writer.write(keys.dialer_proof)
        proof = await reader.readexactly(handshake.PROOF_BYTES)
        if not handshake.is_same(proof, keys.listener_proof):
            raise _refused(address)  # noqa: TRY301
    except asyncio.IncompleteReadError:
        writer.transport.abort()
        raise _refused(address) from None
    except BaseException:
        writer.transport.abort()
        raise
    return Channel(reader, writer, sending=keys.from_dialer, receiving=keys.from_listener)


async def welcome(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    opening: bytes,
    secret: bytes | None,
) -> Channel | None:
    """Answer a dialer's opening; None, and nothing kept, if it does not know *secret*."""
    _tune(writer)
    nonce = secrets.token_bytes(handshake.NONCE_BYTES)
    keys: Keys = handshake.keys(secret or secrets.token_bytes(32), opening, nonce)
    writer.write(nonce)
    proof = await reader.readexactly(handshake.PROOF_BYTES)
    if secret is None or not handshake.is_same(proof, keys.dialer_proof):
        return None
    writer.write(keys.listener_proof)
    return Channel(reader, writer, sending=keys.from_listener, receiving=keys.from_dialer)


def _refused(address: tuple[str, int]) -> PermissionDeniedError:
    return PermissionDeniedError(
        f"{address[0]} port {address[1]} does not accept this network's secret",
        hint="get a new token there with orlop network token",
    )


def _tune(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _address(name: tuple[object, ...] | None) -> str:
    return str(name[0]) if name else ""
