"""SPDY/3.1 frames from a client, whole, in pieces and broken."""

import struct
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.api.cri.streaming import spdy_frames
from orlop.api.cri.streaming.spdy_frames import Data, Decoder, Encoder, Opened, Pinged, Reset


class Client:
    """Makes a client's frames."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=spdy_frames._DICTIONARY)

    def open(self, stream: int, headers: dict[str, str]) -> bytes:
        block = struct.pack(">I", len(headers))
        for word in (word for pair in headers.items() for word in pair):
            block += struct.pack(">I", len(word)) + word.encode()
        return control(1, struct.pack(">IIH", stream, 0, 0) + self.compressed(block))

    def compressed(self, block: bytes) -> bytes:
        return self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def control(kind: int, body: bytes, *, version: int = 3) -> bytes:
    return struct.pack(">HHI", 0x8000 | version, kind, len(body)) + body


def conversation() -> tuple[bytes, list[spdy_frames.Frame]]:
    client = Client()
    headers = {"streamtype": "stdin", "port": "80"}
    sent = client.open(1, headers) + client.open(3, {"streamtype": "error"})
    sent += control(4, bytes(4))  # settings, which nobody needs
    sent += b"".join(spdy_frames.data_frames(1, b"hello", is_last=True))
    sent += spdy_frames.ping_frame(9) + spdy_frames.reset_frame(3)
    return sent, [
        Opened(1, headers, is_last=False),
        Opened(3, {"streamtype": "error"}, is_last=False),
        Data(1, b"hello", is_last=True),
        Pinged(9),
        Reset(3),
    ]


def joined(frames: Iterator[spdy_frames.Frame]) -> list[spdy_frames.Frame]:
    """Put together the pieces of each data frame."""
    whole: list[spdy_frames.Frame] = []
    for frame in frames:
        last = whole[-1] if whole else None
        if isinstance(frame, Data) and isinstance(last, Data) and last.stream == frame.stream:
            whole[-1] = Data(last.stream, last.data + frame.data, frame.is_last)
        else:
            whole.append(frame)
    return whole


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_frames_are_the_same_however_they_arrive(size: int) -> None:
    sent, expected = conversation()
    decoder = Decoder()
    pieces = (sent[at : at + size] for at in range(0, len(sent), size))
    assert joined(frame for piece in pieces for frame in decoder.feed(piece)) == expected


def test_large_data_is_sent_in_frames_of_which_the_last_says_so() -> None:
    data = bytes(100_000)
    frames = list(spdy_frames.data_frames(5, data, is_last=True))
    assert len(frames) > 1
    told = [one for frame in frames for one in Decoder().feed(frame)]
    assert all(isinstance(one, Data) for one in told)
    assert b"".join(one.data for one in told if isinstance(one, Data)) == data
    assert [one.is_last for one in told if isinstance(one, Data)] == [False] * (len(told) - 1) + [
        True
    ]


def test_the_dictionary_is_that_of_the_specification() -> None:
    assert zlib.adler32(spdy_frames._DICTIONARY) == 0xE3C6A7C2


def test_replies_can_be_decompressed_one_after_the_other() -> None:
    encoder, inflate = Encoder(), zlib.decompressobj(zdict=spdy_frames._DICTIONARY)
    for stream in (1, 3):
        frame = encoder.reply(stream)
        assert frame[:12] == struct.pack(">HHII", 0x8003, 2, len(frame) - 8, stream)
        assert inflate.decompress(frame[12:]) == bytes(4)


@pytest.mark.parametrize(
    "frame",
    [
        control(6, bytes(4), version=2),
        control(6, bytes(3)),
        control(1, bytes(9)),
        control(1, bytes(10) + b"not compressed"),
        struct.pack(">HHI", 0x8003, 1, 0xFFFFFF),
        control(1, bytes(10) + Client().compressed(struct.pack(">II", 9, 1) + b"x")),
        control(1, bytes(10) + Client().compressed(struct.pack(">II", 1, 1 << 31))),
        control(1, bytes(10) + Client().compressed(bytes(1 << 20))),
    ],
    ids=["version", "short", "shorter", "garbage", "huge", "few", "long", "bomb"],
)
def test_what_is_no_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|frame|SPDY"):
        list(Decoder().feed(frame))


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    decoder = Decoder()
    try:
        list(decoder.feed(data))
    except ValueError as error:
        assert str(error)  # noqa: PT017 - no error is as good
