"""What goes between engines cannot be forged, repeated or reordered."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from orlop.engine.peers import handshake, messages
from orlop.engine.peers.channel import Channel, dial
from orlop.engine.peers.listener import Listener
from orlop.errors import AlreadyExistsError, CorruptError, PermissionDeniedError, UnavailableError

NETWORK = "ab" * 32
SECRET = bytes(range(32))
LOOPBACK = "127.0.0.1"


class Ear:
    """A listener on loopback, and what it heard."""

    def __init__(self) -> None:
        self.heard: list[messages.AnyMessage | Exception] = []
        self.accepted = 0
        self.listener = Listener(lambda network: SECRET if network == NETWORK else None, self._hear)
        self.port = 0

    async def __aenter__(self) -> "Ear":
        await self.listener.open(LOOPBACK, 0)
        assert self.listener._server is not None
        self.port = self.listener._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.listener.close()

    async def _hear(self, _: str, channel: Channel) -> None:
        self.accepted += 1
        try:
            while True:
                self.heard.append(await channel.receive())
        except (CorruptError, UnavailableError) as error:
            self.heard.append(error)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                await asyncio.sleep(0.005)


class Tap:
    """A relay that keeps what the dialer sends, and may change it: frame by frame."""

    def __init__(self, port: int, change: Callable[[int, bytes], bytes] = lambda _, f: f) -> None:
        self._port, self._change = port, change
        self.sent = b""

    async def __aenter__(self) -> "Tap":
        self._server = await asyncio.start_server(self._relay, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(LOOPBACK, self._port)
        self._tasks.add(asyncio.create_task(_pour(there, writer)))
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            for size in (handshake.OPENING_BYTES, handshake.PROOF_BYTES):
                self._pass(back, await reader.readexactly(size))
            number = 0
            while True:
                head = await reader.readexactly(4)
                body = await reader.readexactly(int.from_bytes(head, "big") + 32)
                self._pass(back, self._change(number, head + body))
                number += 1
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            back.transport.abort()
            writer.transport.abort()

    def _pass(self, back: asyncio.StreamWriter, data: bytes) -> None:
        self.sent += data
        back.write(data)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)


def ping(number: int) -> messages.Ping:
    return messages.Ping(number=number)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(bounded())


def test_messages_arrive_whole_and_in_order() -> None:
    async def work() -> None:
        async with Ear() as ear:
            channel = await dial((LOOPBACK, ear.port), NETWORK, SECRET)
            for number in range(100):
                channel.send(ping(number))
            await ear.until(100)
            assert ear.heard == [ping(number) for number in range(100)]
            channel.close()

    run(work)


@pytest.mark.parametrize("network", [NETWORK, "cd" * 32], ids=["known", "unknown"])
def test_wrong_secret_is_refused(network: str) -> None:
    async def work() -> None:
        async with Ear() as ear:
            with pytest.raises(
                PermissionDeniedError, match="does not accept this network's secret"
            ):
                await dial((LOOPBACK, ear.port), network, os.urandom(32))
            assert ear.accepted == 0

    run(work)


def test_dialer_finds_out_who_does_not_know_the_secret() -> None:
    async def work() -> None:
        async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(handshake.OPENING_BYTES)
            writer.write(os.urandom(32))
            proof = await reader.readexactly(32)
            writer.write(proof)  # reflected
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(lie, LOOPBACK, 0)
        with pytest.raises(PermissionDeniedError):
            await dial((LOOPBACK, server.sockets[0].getsockname()[1]), NETWORK, SECRET)
        server.close()

    run(work)


def test_secret_is_never_said() -> None:
    async def work() -> None:
        async with Ear() as ear, Tap(ear.port) as tap:
            channel = await dial((LOOPBACK, tap.port), NETWORK, SECRET)
            channel.send(ping(1))
            await ear.until(1)
            assert SECRET not in tap.sent
            assert SECRET.hex().encode() not in tap.sent
            channel.close()

    run(work)


def test_recorded_connection_cannot_be_played_again() -> None:
    async def work() -> None:
        async with Ear() as ear, Tap(ear.port) as tap:
            channel = await dial((LOOPBACK, tap.port), NETWORK, SECRET)
            channel.send(ping(1))
            await ear.until(1)
            channel.close()
            await ear.until(2)
            reader, writer = await asyncio.open_connection(LOOPBACK, ear.port)
            writer.write(tap.sent)
            assert len(await reader.read(100)) <= handshake.NONCE_BYTES
            with_nothing = await reader.read(100)
            assert with_nothing == b""
            writer.close()
            assert ear.accepted == 1
            assert len(ear.heard) == 2

    run(work)


@pytest.mark.parametrize(
    "change",
    [
        lambda number, frame: frame + frame if number == 1 else frame,
        lambda number, frame: b"" if number == 1 else frame,
        lambda number, frame: frame[:-1] + bytes([frame[-1] ^ 1]) if number == 1 else frame,
        lambda number, frame: frame[:4] + b"\0" + frame[5:] if number == 1 else frame,
        lambda number, frame: (1 << 31).to_bytes(4, "big") if number == 1 else frame,
    ],
    ids=["sent twice", "left out", "tag changed", "content changed", "too long"],
)
def test_message_that_was_tampered_with_ends_the_connection(
    change: Callable[[int, bytes], bytes],
) -> None:
    async def work() -> None:
        async with Ear() as ear, Tap(ear.port, change) as tap:
            channel = await dial((LOOPBACK, tap.port), NETWORK, SECRET)
            for number in range(5):
                channel.send(ping(number))
            async with asyncio.timeout(5):
                while not any(isinstance(each, Exception) for each in ear.heard):
                    await asyncio.sleep(0.005)
            *good, last = ear.heard
            assert isinstance(last, CorruptError)
            assert good in ([ping(0)], [ping(0), ping(1)])
            channel.close()

    run(work)


def test_port_that_is_taken_is_said_so() -> None:
    async def work() -> None:
        async with Ear() as ear:
            second = Ear()
            with pytest.raises(AlreadyExistsError, match="in use by another program"):
                await second.listener.open(LOOPBACK, ear.port)
            await second.listener.close()

    run(work)


def test_strangers_that_wait_do_not_keep_members_of_other_hosts_out() -> None:
    async def work() -> None:
        async with Ear() as ear:
            held = [
                await asyncio.open_connection(LOOPBACK, ear.port, local_addr=("127.0.0.9", 0))
                for _ in range(40)
            ]
            channel = await dial((LOOPBACK, ear.port), NETWORK, SECRET, local="127.0.0.8")
            channel.send(ping(1))
            await ear.until(1)
            channel.close()
            for _, writer in held:
                writer.transport.abort()

    run(work)
