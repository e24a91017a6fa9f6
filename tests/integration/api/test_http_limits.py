"""Limits of connections: how many there may be, and how long one may be silent."""

import asyncio
import contextlib
from pathlib import Path

from orlop.api.connections import Limits
from orlop.api.http import Server
from tests.integration.api.site import Site, answer, connected, talk

_GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_HANG = b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n"
_HIJACK = b"POST /hijack HTTP/1.1\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n"
_BRIEF = Limits(head_s=0.1, silent_s=0.1)
_FEW = Limits(most=3, most_of_one=3)


async def _until_served(server: Server, count: int) -> None:
    while len(server.connections) < count:
        await asyncio.sleep(0.01)


def test_connection_without_a_request_is_closed_after_a_while(tmp_path: Path) -> None:
    async def scene(_site: Site, _server: Server, path: str) -> None:
        async with connected(path) as (fresh, _), connected(path) as (used, writer):
            writer.write(_GET)
            await answer(used)
            assert (await fresh.read(), await used.read()) == (b"", b"")

    talk(tmp_path, scene, limits=_BRIEF)


def test_connection_whose_headers_do_not_end_is_closed_after_a_while(tmp_path: Path) -> None:
    async def scene(_site: Site, server: Server, path: str) -> None:
        async with connected(path) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: ")
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof():  # it goes on sending
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.01)
        assert not server.connections

    talk(tmp_path, scene, limits=_BRIEF._replace(silent_s=60))


def test_requests_that_take_long_are_not_closed(tmp_path: Path) -> None:
    async def scene(site: Site, _server: Server, path: str) -> None:
        async with (
            connected(path) as (stream, asker),
            connected(path) as (body, sender),
            connected(path) as (raw, talker),
            connected(path) as (idle, _),
        ):
            asker.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            sender.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
            talker.write(_HIJACK)
            await stream.readuntil(b"one")
            await raw.readuntil(b"early:")
            assert await idle.read() == b""  # so the time has passed
            async with connected(path) as (idle, _):
                assert await idle.read() == b""
            site.release.set()
            await stream.readuntil(b"two")
            sender.write(b"b")
            assert (await answer(body))[1] == b"ab"
            talker.write(b"here")
            assert await raw.readexactly(4) == b"HERE"

    talk(tmp_path, scene, limits=_BRIEF)


def test_new_connection_takes_the_place_of_the_one_that_was_silent_for_longest(
    tmp_path: Path,
) -> None:
    async def scene(_site: Site, server: Server, path: str) -> None:
        async with connected(path) as (first, _), connected(path) as (second, used):
            await _until_served(server, 2)
            used.write(_GET)
            await answer(second)
            async with connected(path) as (third, _), connected(path) as (fourth, asker):
                asker.write(_GET)
                await answer(fourth)
                assert await first.read() == b""
                assert not second.at_eof()
                assert not third.at_eof()

    talk(tmp_path, scene, limits=_FEW)


def test_no_more_are_served_than_all_that_are_busy(tmp_path: Path) -> None:
    async def scene(_site: Site, server: Server, path: str) -> None:
        async with contextlib.AsyncExitStack() as stack:
            raw, talker = await stack.enter_async_context(connected(path))
            talker.write(_HIJACK)
            await raw.readuntil(b"early:")
            for number in (1, 2):
                _, writer = await stack.enter_async_context(connected(path))
                writer.write(_HANG)
                while sum(one.task is not None for one in server.connections) < number:
                    await asyncio.sleep(0.01)
            async with connected(path) as (reader, _):
                head, body = await answer(reader)
                assert head.startswith(b"HTTP/1.1 503 ")
                assert b"the engine is busy: 3 connections, 3 of this program" in body
                assert await reader.read() == b""
        while server.connections or server.handovers:
            await asyncio.sleep(0.01)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):  # each place was given back
                reader, writer = await stack.enter_async_context(connected(path))
                writer.write(_GET)
                assert (await answer(reader))[1] == b"GET"
            assert len(server.connections) == 3

    talk(tmp_path, scene, limits=_FEW)


def test_program_with_all_its_places_leaves_some_to_others(tmp_path: Path) -> None:
    async def scene(_site: Site, server: Server, path: str) -> None:
        async with connected(path) as (first, _), connected(path) as (second, asker):
            asker.write(_GET)
            await answer(second)
            assert await first.read() == b""  # its own had to go
            (own,) = server.connections
            server.admission.take("another")
            server.admission.take("another's neighbour")
            assert not own.lost

    talk(tmp_path, scene, limits=Limits(most=3, most_of_one=1))
