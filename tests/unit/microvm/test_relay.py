"""A hostile guest: whatever it sends, the relay holds little of it, or ends the machine."""

import os
import random
import select
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from orlop.errors import CorruptError, OrlopError, UnavailableError
from orlop.microvm.names import Names
from orlop.microvm.relay import End, Ports, Relay
from orlop.model import guestwire as wire
from orlop.model.guestwire import CREDIT_BYTES, MOST_PAYLOAD, WINDOW, Decoder, Frame

FIRST = (1 << 16) + 1  # the stream of the first process


class Host:
    """A relay with one process, whose streams are pipes."""

    def __init__(self) -> None:
        self.guest, channel = socket.socketpair()
        self.feed, self.input = socket.socketpair()
        self.output, stdout = os.pipe()
        self.ends: list[End] = []
        self.relay = Relay(channel)
        self.ports = Ports(os.dup(self.input.fileno()), stdout, os.dup(stdout))
        self._channel = channel
        self.relay.add(wire.START, b"{}", self.ports, self.ends.append)
        self.guest.settimeout(5)

    def turn(self) -> None:
        """Let the relay do all that it can without waiting."""
        for _ in range(1000):
            wanted: dict[int, int] = {}
            for fd, events in self.relay.interests():
                wanted[fd] = wanted.get(fd, 0) | events
            poll = select.poll()
            for fd, events in wanted.items():
                poll.register(fd, events)
            ready = poll.poll(0)
            if not ready:
                return
            for fd, events in ready:
                self.relay.move(fd, events)

    def listens(self) -> bool:
        events = dict(self.relay.interests())
        return bool(events[self._channel.fileno()] & select.POLLIN)

    def close(self) -> None:
        for fd in (*self.ports, self.output):
            os.close(fd)
        for sock in (self.guest, self._channel, self.feed, self.input):
            sock.close()


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


def send(host: Host, *frames: Frame) -> None:
    for frame in frames:
        host.guest.sendall(frame.encode())
        host.turn()


def test_output_comes_out_before_the_end_is_told(host: Host) -> None:
    send(host, Frame(wire.STDOUT, FIRST, b"hello"), Frame(wire.EXITED, FIRST, b"3"))
    assert os.read(host.output, 100) == b"hello"
    assert host.ends == [End(3)]


def test_a_refusal_is_an_end_with_its_reason(host: Host) -> None:
    send(host, Frame(wire.FAILED, FIRST, b"127 no such program"))
    assert host.ends == [End(127, "no such program")]


def test_more_output_than_the_window_ends_the_machine(host: Host) -> None:
    flood = [Frame(wire.STDOUT, FIRST, bytes(MOST_PAYLOAD))] * (4 * WINDOW // MOST_PAYLOAD)
    with pytest.raises(CorruptError, match="more output than it was granted"):
        send(host, *flood)  # nobody reads the pipe


def test_output_after_the_end_ends_the_machine(host: Host) -> None:
    for _ in range(3):  # more than the pipe holds, so that the end is not told yet
        send(host, Frame(wire.STDOUT, FIRST, bytes(MOST_PAYLOAD)))
    send(host, Frame(wire.EXITED, FIRST, b"0"))
    assert host.ends == []
    with pytest.raises(CorruptError):
        send(host, Frame(wire.STDOUT, FIRST, b"x"))


@pytest.mark.parametrize("status", [b"", b"-1", b"256", b"9" * 5000, b"\xff", "٣".encode()])
def test_a_status_that_is_none_ends_the_machine(host: Host, status: bytes) -> None:
    with pytest.raises(CorruptError, match="exit status"):
        send(host, Frame(wire.EXITED, FIRST, status))


@pytest.mark.parametrize("kind", [wire.HELLO, wire.START, wire.STDIN, wire.SIGNAL, wire.PART])
def test_frames_that_only_a_host_sends_end_the_machine(host: Host, kind: int) -> None:
    with pytest.raises(CorruptError):
        send(host, Frame(kind, FIRST))


def test_what_is_said_about_other_streams_is_dropped(host: Host) -> None:
    send(host, *(Frame(wire.STDOUT, number, b"x" * 1000) for number in (0, 1, 77, 2**32 - 1)))
    assert not select.select([host.output], [], [], 0)[0]


def test_a_guest_that_never_reads_is_not_listened_to(host: Host) -> None:
    grant = Frame(wire.CREDIT, FIRST, CREDIT_BYTES.pack(2**32 - 1)).encode()
    host.feed.setblocking(False)
    host.guest.setblocking(False)
    for _ in range(2000):  # it asks for all the input of a process, and takes none
        for sock, data in ((host.guest, grant), (host.feed, bytes(MOST_PAYLOAD))):
            with suppress(BlockingIOError):
                sock.send(data)
        host.turn()
    assert not host.listens()
    assert unsent(host) < 2 * (1 << 20)
    with suppress(BlockingIOError):  # and once it reads, all goes on
        while not host.listens():
            host.guest.recv(1 << 16)
            host.turn()
    assert host.listens()


def unsent(host: Host) -> int:
    return sum(map(len, host.relay._unsent))


def test_questions_that_wait_are_bounded() -> None:
    names = Names()
    for number in range(1000):
        names.ask(number, b"\x12\x34question")
    assert len(names._waiting) == 256
    names.ask(1, b"x")
    names.ask(1, bytes(5000))
    assert len(names._waiting) == 256
    assert names.answer() is None
    names.close()


def test_the_end_of_the_machine_is_told(host: Host) -> None:
    host.guest.close()
    with pytest.raises(UnavailableError, match="the virtual machine has ended"):
        host.turn()


@pytest.mark.parametrize("seed", range(60))
def test_nothing_that_a_guest_sends_is_held_without_bound(host: Host, seed: int) -> None:
    chance = random.Random(seed)
    host.guest.setblocking(False)
    with suppress(BlockingIOError, OrlopError):
        for _ in range(400):
            size = chance.choice((0, 1, 4, 100, MOST_PAYLOAD))
            data = Frame(chance.randrange(0, 22), FIRST, chance.randbytes(size)).encode()
            if chance.random() < 0.01:
                data = chance.randbytes(50)
            host.guest.send(data)
            host.turn()
            assert unsent(host) < 2 * (1 << 20)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff" + bytes(8),
        bytes(8) + b"\x00" + bytes(3),
        bytes(8) + b"\x05" + b"\x01" + bytes(2),
        (MOST_PAYLOAD + 1).to_bytes(4, "little") + bytes(4) + b"\x05" + bytes(3),
    ],
)
def test_a_broken_header_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(CorruptError):
        list(Decoder().feed(data))


def test_a_frame_may_come_byte_by_byte() -> None:
    decoder, frame = Decoder(), Frame(wire.STDOUT, 7, b"payload")
    found = [frame for byte in frame.encode() for frame in decoder.feed(bytes([byte]))]
    assert found == [frame]
