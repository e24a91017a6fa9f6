"""Attach over a WebSocket, by a client of somebody else's."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
import websocket

from tests.integration.engines import EngineProcess


@contextlib.contextmanager
def _attached(engine: EngineProcess, name: str, query: str) -> Iterator[websocket.WebSocket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(engine.socket))
        url = f"ws://localhost/v1.45/containers/{name}/attach/ws?{query}"
        client = websocket.create_connection(url, socket=connection)
        with contextlib.closing(client):
            yield client


def _all(client: websocket.WebSocket) -> bytes:
    """Return all that comes until the engine closes."""
    data = b""
    while True:
        opcode, piece = client.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            assert piece[:2] == (1000).to_bytes(2, "big")
            return data
        assert opcode == websocket.ABNF.OPCODE_BINARY
        data += piece


def test_both_streams_come_without_frames_until_the_end(
    engine: EngineProcess, image: str, name: str
) -> None:
    script = "read line; echo out $line; echo err >&2; exit 3"
    engine.docker("create", "-i", "--name", name, image, "sh", "-c", script)
    with _attached(engine, name, "stream=1&stdin=1&stdout=1&stderr=1") as client:
        engine.docker("start", name)
        client.ping(b"are you there")
        client.send_binary(b"wo")
        client.send("rd\n")
        assert sorted(_all(client).splitlines()) == [b"err", b"out word"]
    assert engine.out("wait", name) == "3"


def test_large_output_and_input_are_whole(engine: EngineProcess, image: str, name: str) -> None:
    engine.docker("create", "-i", "--name", name, image, "head", "-c", "3000000")
    with _attached(engine, name, "stream=1&stdin=1&stdout=1") as client:
        engine.docker("start", name)
        block = bytes(range(256)) * 400
        sent = received = b""
        while len(sent) < 3_000_000:
            client.send_binary(block)
            sent += block
            client.settimeout(0.001)
            with contextlib.suppress(websocket.WebSocketTimeoutException):
                received += client.recv_data()[1]
            client.settimeout(30)
        received += _all(client)
    assert received == sent[:3_000_000]


def test_output_is_whole_though_input_is_left_over(
    engine: EngineProcess, image: str, name: str
) -> None:
    script = "head -c 10 > /dev/null; seq 20000"
    engine.docker("create", "-i", "--name", name, image, "sh", "-c", script)
    with _attached(engine, name, "stream=1&stdin=1&stdout=1") as client:
        client.send_binary(b"x" * 10)
        engine.docker("start", name)
        engine.docker("wait", name)
        for _ in range(50):  # which nobody takes
            client.send_binary(b"x" * 100_000)
        assert _all(client).split() == [str(n).encode() for n in range(1, 20_001)]


def test_a_client_that_goes_leaves_the_container_running(
    engine: EngineProcess, image: str, name: str
) -> None:
    engine.docker("run", "-dit", "--name", name, image, "sh")
    with _attached(engine, name, "stream=1&stdin=1&stdout=1") as client:
        client.send("echo ready\n")
        seen = b""
        while b"\nready" not in seen:
            seen += client.recv_data()[1]
    assert engine.out("inspect", "-f", "{{.State.Running}}", name) == "true"


@pytest.mark.parametrize(
    "header", ["", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n"]
)
def test_a_request_for_no_websocket_is_refused(
    engine: EngineProcess, image: str, name: str, header: str
) -> None:
    engine.docker("create", "--name", name, image, "true")
    request = f"GET /containers/{name}/attach/ws HTTP/1.1\r\nHost: x\r\n{header}\r\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(engine.socket))
        connection.sendall(request.encode())
        answer = connection.recv(4096)
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert b"websocket" in answer
