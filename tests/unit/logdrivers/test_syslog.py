"""The driver syslog, against listeners of the standard library."""

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from orlop.errors import InvalidArgumentError
from orlop.logdrivers.driver import Message
from orlop.logdrivers.syslog import Syslog
from orlop.logdrivers.wire import About

ABOUT: About = {"id": "0" * 64, "name": "web", "image": "i", "tag": "abc", "attributes": {}}
TIME_NS = 1_700_000_000_123_456_789
OUT = Message("stdout", TIME_NS, b"hello")
ERROR = Message("stderr", TIME_NS, b"oops")


class Listener(socketserver.ThreadingMixIn):
    daemon_threads = True


class TCP(Listener, socketserver.TCPServer):
    pass


class UDP(Listener, socketserver.UDPServer):
    pass


class Unix(Listener, socketserver.UnixStreamServer):
    pass


class UnixDatagrams(Listener, socketserver.UnixDatagramServer):
    pass


@contextlib.contextmanager
def listening(
    server: type[socketserver.BaseServer], address: object
) -> Iterator[tuple[object, Queue[bytes]]]:
    """Yield the address of a syslog listener, and the lines that come."""
    lines: Queue[bytes] = Queue()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if isinstance(self.request, tuple):
                lines.put(self.request[0])
            else:
                with self.request.makefile("rb") as file:
                    for line in file:
                        lines.put(line)

    with server(address, Handler) as listener:  # type: ignore[arg-type]
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield listener.server_address, lines
        finally:
            listener.shutdown()
            thread.join()


def sent(address: str, lines: "Queue[bytes]", **options: str) -> list[str]:
    driver = Syslog({"syslog-address": address, **options}, ABOUT)
    driver.open()
    driver.send(OUT)
    driver.send(ERROR)
    driver.close()
    return [lines.get(timeout=20).decode() for _ in range(2)]


HEAD = r"[A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d"


def test_udp_listener_gets_a_datagram_for_each_line() -> None:
    with listening(UDP, ("127.0.0.1", 0)) as (address, lines):
        out, error = sent(f"udp://127.0.0.1:{address[1]}", lines)  # type: ignore[index]
    assert re.fullmatch(rf"<30>{HEAD} abc\[\d+\]: hello\n", out)
    assert re.fullmatch(rf"<27>{HEAD} abc\[\d+\]: oops\n", error)


def test_tcp_listener_gets_a_line_for_each_line() -> None:
    with listening(TCP, ("127.0.0.1", 0)) as (address, lines):
        out, _ = sent(f"tcp://127.0.0.1:{address[1]}", lines)  # type: ignore[index]
    assert re.fullmatch(rf"<30>{HEAD} abc\[\d+\]: hello\n", out)


@pytest.mark.parametrize(("kind", "scheme"), [(Unix, "unix"), (UnixDatagrams, "unixgram")])
def test_unix_sockets_are_reached(
    tmp_path: Path, kind: type[socketserver.BaseServer], scheme: str
) -> None:
    path = str(tmp_path / "log")
    with listening(kind, path) as (_, lines):
        out, error = sent(f"{scheme}://{path}", lines, **{"syslog-facility": "local7"})
    assert out.startswith("<190>")
    assert error.startswith("<187>")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("rfc3164", rf"<30>{HEAD} HOST abc\[\d+\]: hello\n"),
        (
            "rfc5424",
            r"<30>1 20\d\d-\d\d-\d\dT\d\d:\d\d:20(Z|[+-]\d\d:\d\d) HOST abc \d+ abc - hello\n",
        ),
        (
            "rfc5424micro",
            r"<30>1 [-\d]+T[:\d]+\.123456(Z|[+-]\d\d:\d\d) HOST abc \d+ abc - hello\n",
        ),
    ],
)
def test_format_is_the_one_asked_for(form: str, expected: str) -> None:
    with listening(UDP, ("127.0.0.1", 0)) as (address, lines):
        out, _ = sent(f"udp://127.0.0.1:{address[1]}", lines, **{"syslog-format": form})  # type: ignore[index]
    assert re.fullmatch(expected.replace("HOST", re.escape(socket.gethostname())), out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"syslog-address": "127.0.0.1:514"}, "log option syslog-address"),
        ({"syslog-address": "http://127.0.0.1"}, "log option syslog-address"),
        ({"syslog-address": "tcp://host:99999"}, "log option syslog-address"),
        ({"syslog-address": "tcp://"}, "log option syslog-address"),
        ({"syslog-address": "unix://relative"}, "log option syslog-address"),
        ({"syslog-facility": "nobody"}, "log option syslog-facility"),
        ({"syslog-facility": "24"}, "log option syslog-facility"),
        ({"syslog-format": "json"}, "log option syslog-format"),
        ({"syslog-tls-ca-cert": "/nowhere"}, "no file '/nowhere'"),
        ({"syslog-tls-skip-verify": "maybe"}, "must be true or false"),
    ],
)
def test_option_that_is_wrong_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Syslog(options, ABOUT)
    assert message in str(caught.value)


def test_listener_that_is_away_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        Syslog({"syslog-address": f"tcp://127.0.0.1:{port}"}, ABOUT).open()


def test_empty_lines_are_not_sent() -> None:
    with listening(UDP, ("127.0.0.1", 0)) as (address, lines):
        driver = Syslog({"syslog-address": f"udp://127.0.0.1:{address[1]}"}, ABOUT)  # type: ignore[index]
        driver.send(Message("stdout", TIME_NS, b""))
        driver.send(OUT)
        driver.close()
        assert lines.get(timeout=20).endswith(b"hello\n")
