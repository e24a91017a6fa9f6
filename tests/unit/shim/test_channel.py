"""Messages between processes: whole, in order, with descriptors, and never without bound."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.shim import channel
from orlop.shim.channel import MAX_MESSAGE, Channel, Message, connect, listen, receive_datagram
from orlop.shim.loop import Loop


class Peer:
    """A channel under test, and the other end of its connection as a plain socket."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.got: list[tuple[Message, list[int]]] = []
        self.closed = 0
        ours, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel.widen(self.far)
        self.channel = Channel(
            self.loop,
            ours,
            on_message=lambda _channel, message, fds: self.got.append((message, fds)),
            on_close=self._count,
        )

    def _count(self, _channel: Channel) -> None:
        self.closed += 1


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.channel.close()
    peer.far.close()
    peer.loop.close()


def test_message_as_long_as_allowed_arrives_whole(peer: Peer) -> None:
    text = "x" * (MAX_MESSAGE - 100)
    peer.channel.send({"text": text})
    received = receive_datagram(peer.far)
    assert received is not None
    assert received[0] == {"text": text}


def test_message_that_is_too_long_is_refused_by_the_sender(peer: Peer) -> None:
    with pytest.raises(ValueError, match="longer than"):
        peer.channel.send({"text": "x" * MAX_MESSAGE})


def test_descriptors_arrive_with_their_message_even_if_it_had_to_wait(peer: Peer) -> None:
    reader, writer = os.pipe()
    filler = {"text": "x" * 100_000}
    for _ in range(100):
        peer.channel.send(filler)
    peer.channel.send({"last": True}, [writer])
    os.close(writer)
    fds: list[int] = []
    while not fds:
        received = receive_datagram(peer.far)
        assert received is not None
        fds = received[1]
        peer.loop.later(0, lambda: None)
        peer.loop.step()
    os.write(fds[0], b"through")
    os.close(fds[0])
    assert os.read(reader, 10) == b"through"
    os.close(reader)


def test_peer_that_reads_nothing_is_dropped_and_its_descriptors_closed(peer: Peer) -> None:
    before = len(os.listdir("/proc/self/fd"))
    message = {"text": "x" * 1000}
    for _ in range(10_000):
        peer.channel.send(message, [0])
        if peer.channel.closed:
            break
    assert peer.closed == 1
    assert len(os.listdir("/proc/self/fd")) == before - 1  # the connection itself


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff\xfe", b"null"])
def test_peer_that_talks_nonsense_is_dropped(peer: Peer, data: bytes) -> None:
    peer.far.send(data)
    peer.loop.step()
    assert peer.closed == 1
    assert peer.got == []


def test_end_of_the_connection_is_told_once(peer: Peer) -> None:
    peer.far.close()
    peer.loop.step()
    peer.channel.close()
    assert peer.closed == 1


def test_socket_at_a_long_path_can_be_used_and_is_private(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    path = folder / "s.sock"
    with listen(str(path)) as listener, connect(str(path)) as client:
        accepted, _ = listener.accept()
        with accepted:
            client.send(b'{"a":1}')
            assert receive_datagram(accepted) == ({"a": 1}, [])
        assert path.stat().st_mode & 0o777 == 0o600


def test_descriptor_number_used_again_within_a_round_gets_no_stale_event() -> None:
    loop = Loop()
    first, second = os.pipe(), os.pipe()
    os.write(first[1], b"x")
    os.write(second[1], b"x")
    calls: list[str] = []
    idle = os.pipe()

    def replace(_: int) -> None:
        calls.append("first")
        loop.forget(first[0])
        loop.forget(second[0])
        os.dup2(idle[0], second[0])
        loop.watch(second[0], lambda _: calls.append("stale"))

    loop.watch(first[0], replace)
    loop.watch(second[0], replace)
    loop.step()
    loop.close()
    for fd in (*first, *second, *idle):
        os.close(fd)
    assert calls == ["first"]
