"""Keys that detach, and bytes between a terminal and a container."""

import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.cli.pump import Pump
from orlop.cli.terminal import DetachKeys, parse_detach_keys
from orlop.client.http import RawStream


def test_detach_keys_are_letters_and_controls() -> None:
    assert parse_detach_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_detach_keys("a,ctrl-[,ctrl-@") == b"a\x1b\x00"
    for text in ("", "ctrl-", "ctrl-€", "alt-x", "ctrl-1"):
        with pytest.raises(ValueError, match="invalid detach key"):
            parse_detach_keys(text)


def test_sequence_detaches_and_what_came_before_is_passed_on() -> None:
    assert DetachKeys(b"\x10\x11").feed(b"ls\n\x10\x11more") == (b"ls\n", True)


def test_beginning_of_the_sequence_is_held_back_until_it_is_none() -> None:
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"a\x10") == (b"a", False)
    assert keys.feed(b"b") == (b"\x10b", False)
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"\x11") == (b"", True)


@given(st.lists(st.binary(max_size=8), max_size=8))
def test_nothing_typed_is_lost_or_reordered(pieces: list[bytes]) -> None:
    keys = DetachKeys(b"\x10\x11")
    passed = b""
    for piece in pieces:
        part, detached = keys.feed(piece)
        passed += part
        if detached:
            typed = b"".join(pieces)
            assert typed.startswith(passed + b"\x10\x11")
            return
    assert b"".join(pieces) in (passed, passed + b"\x10")


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def test_output_and_errors_go_to_their_own_descriptors() -> None:
    ours, theirs = socket.socketpair()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    theirs.sendall(frame(1, b"out") + frame(2, b"err") + frame(1, b"put") + frame(4, b"42"))
    theirs.close()
    stream = RawStream(ours, b"", headers={})
    try:
        pump = Pump(stream, stdin=None, framed=True, outputs=(out_write, err_write))
        assert pump.run() is False
        assert (os.read(out_read, 99), os.read(err_read, 99)) == (b"output", b"err")
        assert pump.status == 42
    finally:
        stream.close()
        for descriptor in (out_read, out_write, err_read, err_write):
            os.close(descriptor)


def test_far_end_that_writes_more_than_it_reads_does_not_stand_still(
    tmp_path: os.PathLike[str],
) -> None:
    """It reads only when it has written: to send all before receiving would wait forever."""
    size = 2 << 20
    ours, theirs = socket.socketpair()
    source = os.open(os.path.join(tmp_path, "in"), os.O_RDWR | os.O_CREAT)
    os.truncate(source, size)
    sink = os.open(os.path.join(tmp_path, "out"), os.O_RDWR | os.O_CREAT)

    def echo() -> None:
        while data := theirs.recv(64 << 10):
            theirs.sendall(data * 8)
        theirs.close()

    thread = threading.Thread(target=echo)
    thread.start()
    stream = RawStream(ours, b"", headers={})
    try:
        Pump(stream, stdin=source, framed=False, outputs=(sink, sink)).run()
        assert os.fstat(sink).st_size == 8 * size
    finally:
        stream.close()
        thread.join(10)
        os.close(source)
        os.close(sink)
