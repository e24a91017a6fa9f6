"""The driver fluentd, against a peer that decodes the forward protocol."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import msgspec
import pytest

from orlop.errors import InvalidArgumentError
from orlop.logdrivers import fluentd
from orlop.logdrivers.driver import Message, Part
from orlop.logdrivers.fluentd import Fluentd
from orlop.logdrivers.wire import About

ABOUT: About = {
    "id": "ab" * 32,
    "name": "web",
    "image": "busybox",
    "tag": "a.tag",
    "attributes": {"team": "red"},
}
TIME_NS = 1_700_000_000_123_456_789
OUT = Message("stdout", TIME_NS, b"hello \xff")
Events = Queue[list[Any]]


@contextlib.contextmanager
def forward(server: socket.socket, *, answers: list[Any] | None = None) -> Iterator[Events]:
    """Yield the messages that one connection after the other brings.

    Each is answered by the next of *answers*: True acknowledges it, other values are said
    instead, and None hangs up.
    """
    events: Events = Queue()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    for event in decoded(connection):
                        events.put(event)
                        answer = answers.pop(0) if answers else {}
                        if answer is None:
                            break
                        if answer:
                            ack = event[3].get("chunk") if answer is True else answer
                            connection.sendall(msgspec.msgpack.encode({"ack": ack}))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield events
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def decoded(connection: socket.socket) -> Iterator[list[Any]]:
    data = b""
    while block := connection.recv(1 << 16):
        data += block
        with contextlib.suppress(msgspec.DecodeError):
            yield msgspec.msgpack.decode(data)
            data = b""


def connected(server: socket.socket, **options: str) -> Fluentd:
    port = server.getsockname()[1]
    return Fluentd({"fluentd-address": f"127.0.0.1:{port}", **options}, ABOUT)


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_message_has_the_record_that_docker_makes() -> None:
    with listener() as server, forward(server) as events:
        driver = connected(server)
        driver.send(OUT)
        tag, moment, record, options = events.get(timeout=20)
        driver.close()
    assert (tag, moment, options) == ("a.tag", 1_700_000_000, {})
    assert record == {
        "container_id": "ab" * 32,
        "container_name": "/web",
        "source": "stdout",
        "log": "hello \ufffd",
        "team": "red",
    }


def test_part_of_a_long_line_says_which() -> None:
    with listener() as server, forward(server) as events:
        driver = connected(server)
        driver.send(Message("stderr", TIME_NS, b"x", Part("7", 3, last=False)))
        record = events.get(timeout=20)[2]
        driver.close()
    assert record["source"] == "stderr"
    parts = {name: value for name, value in record.items() if name.startswith("partial")}
    assert parts == {
        "partial_message": "true",
        "partial_id": "7",
        "partial_ordinal": "3",
        "partial_last": "false",
    }


def test_time_has_nanoseconds_where_they_are_asked_for() -> None:
    with listener() as server, forward(server) as events:
        driver = connected(server, **{"fluentd-sub-second-precision": "true"})
        driver.send(OUT)
        moment = events.get(timeout=20)[1]
        driver.close()
    assert (moment.code, struct.unpack(">II", moment.data)) == (0, (1_700_000_000, 123_456_789))


def test_message_is_sent_again_until_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fluentd, "_ACK_S", 0.2)
    answers = [None, "of another", True]
    with listener() as server, forward(server, answers=answers) as events:
        driver = connected(server, **{"fluentd-request-ack": "true", "fluentd-retry-wait": "1ms"})
        driver.send(OUT)
        sent = [events.get(timeout=20) for _ in range(3)]
        driver.close()
    assert sent[0] == sent[1] == sent[2]
    assert sent[0][3]["chunk"]


def test_peer_that_is_away_is_tried_as_often_as_options_say() -> None:
    with listener() as server:
        driver = connected(server, **{"fluentd-max-retries": "3", "fluentd-retry-wait": "1ms"})
    with pytest.raises(ConnectionRefusedError):
        driver.send(OUT)


def test_unix_socket_is_reached(tmp_path: Path) -> None:
    path = str(tmp_path / "fluentd")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with forward(server) as events:
            driver = Fluentd({"fluentd-address": f"unix://{path}"}, ABOUT)
            driver.send(OUT)
            assert events.get(timeout=20)[0] == "a.tag"
            driver.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fluentd-address": "udp://127.0.0.1"}, "log option fluentd-address"),
        ({"fluentd-address": "tcp://127.0.0.1/path"}, "log option fluentd-address"),
        ({"fluentd-address": "127.0.0.1:no"}, "log option fluentd-address"),
        ({"fluentd-retry-wait": "soon"}, "expected a duration"),
        ({"fluentd-max-retries": "0"}, "at least 1"),
        ({"fluentd-buffer-limit": "much"}, "invalid size"),
        ({"fluentd-async": "maybe"}, "must be true or false"),
    ],
)
def test_option_that_is_wrong_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Fluentd(options, ABOUT)
    assert message in str(caught.value)
