"""Pulls whose outcome nobody waits for any more."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest

import orlop
from tests.integration.engines import EngineProcess

LONG_S = 20.0  # the engine asks a registry that does not answer for 150 s

Start = Callable[[str, str], Awaitable[object]]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A registry that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


async def start(engine: str, image: str) -> object:
    return await orlop.AsyncSandbox(engine=engine, image=image).start()


async def start_usual(engine: str, image: str) -> object:
    return await orlop.AsyncSandbox(engine=engine, image=image, command=["true"]).start()


async def run(engine: str, image: str) -> object:
    return await orlop.AsyncRunner(engine=engine, image=image).run(["true"])


async def start_many(engine: str, image: str) -> object:
    return await orlop.AsyncBatch(engine=engine, image=image, count=2).start()


@pytest.mark.parametrize("begin", [start, start_usual, run, start_many])
def test_cancelled_start_ends_its_pull(
    engine: EngineProcess, silent: socket.socket, begin: Start
) -> None:
    host, port = silent.getsockname()

    async def cancel() -> None:
        loop = asyncio.get_running_loop()
        starting = asyncio.ensure_future(begin(engine.url, f"{host}:{port}/nothing:1"))
        client, _ = await asyncio.wait_for(loop.sock_accept(silent), LONG_S)
        with client:
            client.setblocking(False)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(starting, LONG_S)
            while await asyncio.wait_for(loop.sock_recv(client, 4096), LONG_S):
                pass  # what it has asked for

    asyncio.run(cancel())
