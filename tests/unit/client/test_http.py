"""The client's HTTP against bytes as servers send them."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orlop.client.address import Address, parse_host, settings
from orlop.client.calls import encode, finish_upgrade, quote
from orlop.client.http import Connection, check, error_of
from orlop.client.images import split_tag
from orlop.client.stream import Demultiplexer
from orlop.errors import (
    AlreadyExistsError,
    CorruptError,
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    UnavailableError,
    WrongStateError,
)

Serve = Callable[..., Connection]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """serve(pieces…) returns a connection to a server that answers one request with them."""
    listener = socket.socket(socket.AF_UNIX)
    path = str(tmp_path / "s")
    listener.bind(path)
    listener.listen()
    requests: list[bytes] = []
    threads: list[threading.Thread] = []
    connection = Connection(Address(path, None))

    def start(*pieces: bytes) -> Connection:
        def answer() -> None:
            accepted, _ = listener.accept()
            with accepted:
                requests.append(accepted.recv(65536))
                for piece in pieces:
                    accepted.sendall(piece)

        thread = threading.Thread(target=answer)
        thread.start()
        threads.append(thread)
        return connection

    yield start
    connection.close()
    for thread in threads:
        thread.join(5)
    listener.close()


def test_body_of_known_length_is_read_to_its_end(serve: Serve) -> None:
    connection = serve(b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a"', b":1}")
    assert connection.request("GET", "/").json() == {"a": 1}


def test_chunked_body_arrives_whole_however_it_is_cut(serve: Serve) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    )
    connection = serve(*(answer[i : i + 1] for i in range(len(answer))))
    assert connection.request("GET", "/").read() == b"abc0123456789"


def test_body_without_a_length_ends_with_the_connection(serve: Serve) -> None:
    connection = serve(b"HTTP/1.1 200 OK\r\n\r\none\ntw", b"o\n\nthree")
    assert list(connection.request("GET", "/").lines()) == [b"one", b"two", b"three"]


def test_news_before_the_answer_are_passed_over(serve: Serve) -> None:
    connection = serve(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    response = connection.request("POST", "/", body=b"x")
    assert (response.status, response.json()) == (204, None)


def test_upgraded_connection_keeps_what_came_with_the_answer(serve: Serve) -> None:
    connection = serve(
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: a/b\r\nUpgrade: tcp\r\n\r\nearly", b" late"
    )
    connection.send("POST", "/")
    stream = finish_upgrade(connection)
    try:
        received = b""
        while piece := stream.receive():
            received += piece
        assert (stream.media_type, received) == ("a/b", b"early late")
    finally:
        stream.close()


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",),
    ],
)
def test_engine_that_goes_away_in_the_middle_is_an_error(
    serve: Serve, pieces: tuple[bytes, ...]
) -> None:
    connection = serve(*pieces)
    with pytest.raises(UnavailableError, match="the engine closed the connection"):
        connection.request("GET", "/").read()


def test_what_does_not_speak_http_is_named(serve: Serve) -> None:
    connection = serve(b"SSH-2.0-OpenSSH\r\n\r\n")
    with pytest.raises(CorruptError, match="does not speak HTTP"):
        connection.request("GET", "/")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidArgumentError),
        (404, NotFoundError),
        (409, WrongStateError),
        (418, InvalidArgumentError),
        (500, OrlopError),
        (503, UnavailableError),
        (599, OrlopError),
    ],
)
def test_status_says_which_error_it_is(status: int, kind: type[OrlopError]) -> None:
    error = error_of(status, b'{"message":"no such thing"}')
    assert type(error) is kind
    assert str(error) == "no such thing"


def test_name_in_use_is_told_from_a_wrong_state() -> None:
    body = b'{"message":"the name web is taken","kind":"already_exists"}'
    assert isinstance(error_of(409, body), AlreadyExistsError)
    dockers = b'{"message":"the name web is already in use"}'
    assert isinstance(error_of(409, dockers), AlreadyExistsError)


def test_error_without_a_message_shows_what_there_is() -> None:
    assert str(error_of(500, b"<h1>oops</h1>")) == "<h1>oops</h1>"
    assert str(error_of(500, b"")) == "the engine answered 500"


def test_error_response_raises_when_checked(serve: Serve) -> None:
    connection = serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\n", b'{"message":"x"}')
    with pytest.raises(NotFoundError, match=r"^x$"):
        check(connection.request("GET", "/"))


def test_query_leaves_out_what_is_not_given() -> None:
    assert encode({"a": None, "b": False, "c": "", "d": []}) == ""
    assert encode({"a": True, "n": 0, "l": ["x", "y"], "f": {"k": ["v"]}}) == (
        "?a=1&n=0&l=x&l=y&f=%7B%22k%22:%5B%22v%22%5D%7D"
    )
    assert quote("a b/ü&") == "a%20b/%C3%BC%26"


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("alpine", ("alpine", "")),
        ("alpine:3", ("alpine", "3")),
        ("host:5000/a", ("host:5000/a", "")),
        ("host:5000/a/b:1", ("host:5000/a/b", "1")),
    ],
)
def test_colon_before_a_slash_is_a_port(reference: str, parts: tuple[str, str]) -> None:
    assert split_tag(reference) == parts


def test_frames_are_told_apart_wherever_they_are_cut() -> None:
    data = b"\1\0\0\0\0\0\0\3abc\2\0\0\0\0\0\0\2de\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\1f"
    for cut in range(len(data)):
        frames = Demultiplexer()
        parts = [*frames.feed(data[:cut]), *frames.feed(data[cut:])]
        assert b"".join(part for stream, part in parts if stream == 1) == b"abcf"
        assert b"".join(part for stream, part in parts if stream == 2) == b"de"


def test_what_is_no_frame_is_corrupt() -> None:
    with pytest.raises(CorruptError, match="not a frame"):
        list(Demultiplexer().feed(b"plain text"))


def test_engine_is_chosen_by_options_then_environment_then_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ORLOP_ROOT", "ORLOP_RUN", "ORLOP_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///docker.sock")
    assert str(settings().address) == "unix:///run/orlop/orlop.sock"
    monkeypatch.setenv("ORLOP_RUN", "/tmp/a")
    assert str(settings().address) == "unix:///tmp/a/orlop.sock"
    monkeypatch.setenv("ORLOP_HOST", "tcp://[::1]:99")
    assert settings().address.tcp == ("::1", 99)
    assert str(settings(run="/tmp/b").address) == "unix:///tmp/b/orlop.sock"
    assert str(settings(host="/c.sock").address) == "unix:///c.sock"


@pytest.mark.parametrize("text", ["", "nonsense", "unix://relative", "tcp://host", "ssh://a:1"])
def test_address_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid engine address"):
        parse_host(text)


def test_socket_path_that_the_kernel_cannot_take_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="longer than 107 bytes"):
        parse_host("unix:///" + "a" * 120)
