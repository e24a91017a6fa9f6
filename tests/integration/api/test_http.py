"""The HTTP protocol over a real unix socket, spoken to byte by byte."""

import asyncio
import contextlib
import gc
import os
import socket
import weakref
from pathlib import Path
from random import Random

from orlop.api.http import BACKLOG_LIMIT, HEAD_LIMIT, Server
from tests.integration.api.site import Site, answer, talk


def exchange(folder: Path, request: bytes) -> bytes:
    """Send *request*, read all that comes until the server closes."""
    got = bytearray()

    async def scene(_site: Site, _server: Server, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request)
        got.extend(await reader.read(-1))
        writer.close()

    talk(folder, scene)
    return bytes(got)


def test_connection_serves_one_request_after_another(tmp_path: Path) -> None:
    async def scene(_site: Site, _server: Server, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head, body = await answer(reader)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"Server: test\r\n" in head
            assert body == b"GET"
        writer.close()

    talk(tmp_path, scene)


def test_requests_sent_early_wait_their_turn(tmp_path: Path) -> None:
    request = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"

    async def scene(_site: Site, _server: Server, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request + b"abc" + request + b"def" + request + b"ghi")
        assert [(await answer(reader))[1] for _ in range(3)] == [b"abc", b"def", b"ghi"]
        writer.close()

    talk(tmp_path, scene)


def test_request_may_arrive_byte_by_byte(tmp_path: Path) -> None:
    async def scene(_site: Site, _server: Server, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        for byte in b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello":
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await answer(reader))[1] == b"hello"
        writer.close()

    talk(tmp_path, scene)


def test_chunked_request_body_is_put_together(tmp_path: Path) -> None:
    got = exchange(
        tmp_path,
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
        b"\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n",
    )
    assert got.endswith(b"\r\n\r\nabcdefg")
    assert b"Connection: close\r\n" in got


def test_stream_sends_its_headers_before_its_first_piece(tmp_path: Path) -> None:
    async def scene(site: Site, _server: Server, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked\r\n" in head
        assert await reader.readexactly(8) == b"3\r\none\r\n"
        site.release.set()
        assert await reader.readexactly(13) == b"3\r\ntwo\r\n0\r\n\r\n"
        writer.close()

    talk(tmp_path, scene)


def test_stream_for_http_1_0_is_plain_and_ends_with_the_connection(tmp_path: Path) -> None:
    async def scene(site: Site, _server: Server, path: str) -> None:
        site.release.set()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /stream HTTP/1.0\r\n\r\n")
        got = await reader.read(-1)
        assert b"chunked" not in got
        assert got.endswith(b"\r\n\r\nonetwo")
        writer.close()

    talk(tmp_path, scene)


def test_head_request_gets_headers_only(tmp_path: Path) -> None:
    got = exchange(tmp_path, b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 4\r\n" in got
    assert got.endswith(b"\r\n\r\n")


def test_malformed_requests_get_400(tmp_path: Path) -> None:
    for number, junk in enumerate(
        (
            b"GARBAGE\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\n\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        got = exchange(folder, junk)
        assert got.startswith(b"HTTP/1.1 400 Bad Request\r\n"), junk
        assert b'{"message":"malformed HTTP request' in got


def test_bad_chunk_ends_the_connection_and_the_handler(tmp_path: Path) -> None:
    got = exchange(
        tmp_path, b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"
    )
    assert b"200 OK" not in got


def test_headers_have_a_size_limit(tmp_path: Path) -> None:
    got = exchange(tmp_path, b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_LIMIT)
    assert got.startswith(b"HTTP/1.1 431 ")


def test_client_that_expects_100_continue_gets_it_when_the_body_is_wanted(tmp_path: Path) -> None:
    async def scene(_site: Site, _server: Server, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await answer(reader))[1] == b"ok"
        writer.close()

    talk(tmp_path, scene)


def test_client_that_goes_away_cancels_its_handler(tmp_path: Path) -> None:
    async def scene(site: Site, _server: Server, path: str) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /hang HTTP/1.1\r\n\r\n")
        await site.entered.wait()
        writer.close()
        await site.cancelled.wait()

    talk(tmp_path, scene)


def test_client_that_goes_away_in_its_body_ends_the_handler(tmp_path: Path) -> None:
    async def scene(site: Site, server: Server, path: str) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b"POST /count HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
        await site.entered.wait()
        writer.close()
        while server.connections:
            await asyncio.sleep(0.01)
        assert site.read_bytes == 0

    talk(tmp_path, scene)


def test_slow_reader_stops_the_stream_and_nobody_else(tmp_path: Path) -> None:
    async def scene(site: Site, _server: Server, path: str) -> None:
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(path)
        slow.sendall(b"GET /flood HTTP/1.1\r\n\r\n")
        await site.entered.wait()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await answer(reader))[1] == b"GET"
        writer.close()
        slow.close()
        await site.cancelled.wait()

    talk(tmp_path, scene)


def test_large_body_waits_until_it_is_read(tmp_path: Path) -> None:
    size = 32 << 20

    async def scene(site: Site, _server: Server, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.transport.set_write_buffer_limits(high=64 << 10)
        writer.write(b"POST /count HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)

        async def upload() -> None:
            for _ in range(size >> 16):
                writer.write(bytes(65536))
                await writer.drain()

        sent = asyncio.create_task(upload())
        await site.entered.wait()
        await asyncio.sleep(0.1)
        assert not sent.done()  # the socket is full, not our memory
        site.release.set()
        assert (await answer(reader))[1] == str(size).encode()
        await sent
        writer.close()

    talk(tmp_path, scene)


def test_body_that_nobody_reads_does_not_spoil_the_answer(tmp_path: Path) -> None:
    request = b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000000)

    async def scene(_site: Site, _server: Server, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        for _ in range(2):
            writer.write(request)
            assert (await answer(reader))[1] == b"POST"
        writer.close()

    talk(tmp_path, scene)


def test_hijacked_connection_is_a_raw_socket_with_nothing_lost(tmp_path: Path) -> None:
    heads = {
        b"HTTP/1.1 101 UPGRADED\r\n": b"Connection: Upgrade\r\nUpgrade: tcp\r\n",
        b"HTTP/1.1 200 OK\r\n": b"",
    }

    async def scene(_site: Site, _server: Server, path: str) -> None:
        for status, upgrade in heads.items():
            reader, writer = await asyncio.open_unix_connection(path)
            request = b"POST /hijack HTTP/1.1\r\nContent-Length: 2\r\n" + upgrade + b"\r\n{}"
            writer.write(request + b"first")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(status)
            assert b"Content-Type: application/vnd.docker.raw-stream\r\n" in head
            assert await reader.readexactly(11) == b"early:first"
            writer.write(b"then")
            assert await reader.readexactly(4) == b"THEN"
            writer.write_eof()
            assert await reader.read(-1) == b""
            writer.close()

    talk(tmp_path, scene)


def test_stdin_that_ended_early_still_reaches_a_hijacked_socket(tmp_path: Path) -> None:
    async def scene(_site: Site, _server: Server, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"POST /hijack HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nall")
        writer.write_eof()
        got = await reader.read(-1)
        assert got.endswith(b"\r\n\r\nearly:all")
        writer.close()

    talk(tmp_path, scene)


def test_client_cannot_make_the_server_keep_endless_early_bytes(tmp_path: Path) -> None:
    async def scene(site: Site, server: Server, path: str) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /hang HTTP/1.1\r\n\r\n")
        await site.entered.wait()
        for _ in range(64):
            writer.write(bytes(65536))
        await asyncio.sleep(0.1)
        (connection,) = server.connections
        assert len(connection._backlog) < BACKLOG_LIMIT + (512 << 10)
        writer.transport.abort()

    talk(tmp_path, scene)


def test_handler_that_fails_unexpectedly_closes_only_its_connection(tmp_path: Path) -> None:
    async def scene(_site: Site, _server: Server, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /broken HTTP/1.1\r\n\r\n")
        assert await reader.read(-1) == b""
        writer.close()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await answer(reader))[1] == b"GET"
        writer.close()

    talk(tmp_path, scene)


def test_connections_leave_no_descriptor_behind(tmp_path: Path) -> None:
    async def scene(_site: Site, server: Server, path: str) -> None:
        async def visit(request: bytes) -> None:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(request)
            writer.write_eof()
            await reader.read(-1)
            writer.close()
            await writer.wait_closed()

        hijack = b"POST /hijack HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nx"
        await visit(hijack)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(100):
            await visit(hijack)
            await visit(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        while server.connections:
            await asyncio.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) == before

    talk(tmp_path, scene)


def test_no_bytes_make_the_server_fail(tmp_path: Path) -> None:
    """Mutated requests are answered or refused, and the next client is served as ever."""
    random = Random(20)
    whole = (
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST /hijack HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        b"GET /%7e?x=%zz&=&filters=%FF HTTP/1.1\r\nHost: x\r\n\r\n" * 2,
    )

    async def scene(_site: Site, server: Server, path: str) -> None:
        for number in range(400):
            data = bytearray(whole[number % len(whole)])
            for _ in range(random.randrange(4)):
                data[random.randrange(len(data))] = random.choice(b"\r\n\0 :%09zZ\xff")
            cut = random.randrange(len(data) + 1)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(data[:cut])
            await asyncio.sleep(0)
            writer.write(data[cut:])
            writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                await reader.read(-1)
            writer.close()
        assert not server.handovers
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answer(reader))[1] == b"GET"
        writer.close()

    talk(tmp_path, scene)


def test_a_connection_that_has_ended_needs_no_collection(tmp_path: Path) -> None:
    request = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n%s\r\nhello"
    upgrade = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"

    async def scene(site: Site, server: Server, path: str) -> None:
        for target, more in ((b"/echo", b""), (b"/hijack", upgrade)):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(request % (target, more))
            await site.entered.wait()
            site.entered.clear()
            known = [weakref.ref(connection) for connection in server.connections]
            assert len(known) == 1
            writer.write_eof()
            await reader.read(-1)
            writer.close()
            while server.connections or server.handovers:
                await asyncio.sleep(0)
            for _ in range(20):  # the loop lets go of what it has called
                await asyncio.sleep(0)
            assert [ref() for ref in known] == [None], target

    gc.collect()
    gc.disable()
    try:
        talk(tmp_path, scene)
    finally:
        gc.enable()
