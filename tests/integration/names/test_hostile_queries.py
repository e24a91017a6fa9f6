"""Containers that mean ill: garbage, floods, connections; and the port that is theirs."""

import random
import socket
import struct
import threading
import time
from contextlib import ExitStack

import pytest

from orlop.network.dns.message import Code, code_of
from tests.integration.names.conftest import Scene, front
from tests.integration.names.scene import Asker, run_in, wire


def test_garbage_is_survived(web: Asker) -> None:
    noise = random.Random(4)
    good = wire("db")
    with web.socket() as asking:
        for _ in range(2000):
            cut = noise.randrange(len(good))
            asking.send(good[:cut] + noise.randbytes(noise.randrange(200)))
        asking.send(bytes(60000))
        for _ in range(300):
            asking.send(noise.randbytes(noise.randrange(1, 100)))
    # More than once, as resolvers do: the kernel drops what comes when the socket is full.
    assert web.dig("+tries=5", "+time=3", "db") == ["10.9.0.3"]


def test_garbage_over_tcp_ends_its_connection_alone(web: Asker) -> None:
    for garbage in (b"\0\0", b"\0\5hello", struct.pack("!H", 65535) + bytes(65535), b"\0"):
        with web.socket(socket.SOCK_STREAM) as asking:
            asking.sendall(garbage)
            asking.shutdown(socket.SHUT_WR)
            while asking.recv(4096):
                pass
    assert web.dig("+tcp", "db") == ["10.9.0.3"]


def test_one_connection_can_ask_many_questions(web: Asker) -> None:
    message = wire("db")
    with web.socket(socket.SOCK_STREAM) as asking:
        asking.sendall((struct.pack("!H", len(message)) + message) * 500)
        for _ in range(500):
            (size,) = struct.unpack("!H", asking.recv(2, socket.MSG_WAITALL))
            assert asking.recv(size, socket.MSG_WAITALL).endswith(bytes([10, 9, 0, 3]))


def test_idle_connections_do_not_add_up(scene: Scene, web: Asker) -> None:
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(web.socket(socket.SOCK_STREAM))
        time.sleep(0.2)
        listener = scene.engine.names._listeners["a" * 64]
        assert listener._connections <= 16
        assert web.dig("db") == ["10.9.0.3"]
    other = scene.start("c", "other", front("10.9.0.4"))
    assert other.dig("+tcp", "db") == ["10.9.0.3"]


def test_questions_that_nobody_answers_do_not_add_up(scene: Scene, web: Asker) -> None:
    scene.upstream.silent = True
    with web.socket() as asking:
        for number in range(200):  # which a socket has room for
            asking.send(wire(f"n{number}.example", id_=number))
        refused = sum(code_of(asking.recv(600)) == Code.SERVFAIL for _ in range(100))
        assert refused == 100
        assert len({message[2:] for _, message in scene.upstream.asked}) <= 100
        asking.send(wire("n0.example", id_=0))  # the same again is no other question
    assert web.dig("db") == ["10.9.0.3"]
    other = scene.start("c", "other", front("10.9.0.4"))
    scene.upstream.silent = False
    assert other.dig("world.example") == ["192.0.2.80"]


def test_floods_leave_the_loop_to_others(scene: Scene, web: Asker) -> None:
    over = threading.Event()
    flooders = [scene.start(letter, letter, front(f"10.9.2.{ord(letter)}")) for letter in "cdef"]

    def flood(asker: Asker, message: bytes) -> None:
        with asker.socket() as asking:
            while not over.is_set():
                asking.send(message)

    threads = [
        threading.Thread(target=flood, args=(asker, wire(name)))
        for asker in flooders
        for name in ("db", "x.example")
    ]
    for thread in threads:
        thread.start()
    try:
        turns = scene.engine.names._turns
        deadline = time.monotonic() + 20
        while not (turns._waiting or turns._handle):  # they are noticed
            assert time.monotonic() < deadline
        for _ in range(20):
            assert scene.engine.do(lambda: 1) == 1
            assert web.dig("db") == ["10.9.0.3"]
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert web.dig("db") == ["10.9.0.3"]


def test_the_port_is_the_containers_own(web: Asker) -> None:
    """A name server in a container listens on every address, and gets what is sent to it."""

    def listen() -> tuple[socket.socket, socket.socket]:
        udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        for one in (udp, tcp):
            one.settimeout(5)
            one.bind(("0.0.0.0", 53))
        tcp.listen()
        return udp, tcp

    udp, tcp = run_in(web.namespace, listen)
    with udp, tcp:
        assert web.dig("db") == ["10.9.0.3"]
        assert web.dig("+tcp", "db") == ["10.9.0.3"]
        with run_in(web.namespace, lambda: socket.socket(type=socket.SOCK_DGRAM)) as asking:
            asking.sendto(b"hello", ("127.0.0.1", 53))
            assert udp.recv(10) == b"hello"
        with run_in(web.namespace, lambda: socket.create_connection(("127.0.0.1", 53))):
            tcp.accept()[0].close()


def test_without_bpf_the_port_itself_is_bound(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError

    monkeypatch.setattr("orlop.engine.names.sockets.redirect", refuse)
    asker = scene.start("c", "plain", front("10.9.0.4"))
    assert asker.dig("plain") == ["10.9.0.4"]
    assert asker.dig("+tcp", "plain") == ["10.9.0.4"]
