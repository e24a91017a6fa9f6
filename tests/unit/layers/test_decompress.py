"""Layers compressed as others do, and broken in all ways."""

import gzip
import hashlib
import os
from collections.abc import Callable

import isal.igzip
import pytest
import zstandard

from orlop.errors import CorruptError, OrlopError, UnavailableError, UnsupportedError
from orlop.layers.decompress import Layer
from orlop.layers.feed import through
from orlop.layers.tar import Stream
from orlop.model.digest import DiffID

DATA = os.urandom(120_000) + bytes(3_000_000)
HALF = len(DATA) // 2
SKIPPED = b"\x5f\x2a\x4d\x18\x03\0\0\0abc"  # a frame of 3 bytes that are no data


def compressed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


FORMS = {
    "plain": DATA,
    "gzip": gzip.compress(DATA),
    "isal": isal.igzip.compress(DATA),
    "gzip members": gzip.compress(DATA[:HALF]) + gzip.compress(b"") + gzip.compress(DATA[HALF:]),
    "gzip and zeros": gzip.compress(DATA) + bytes(600),
    "zstd": compressed(DATA),
    "zstd frames": compressed(DATA[:HALF]) + SKIPPED + compressed(DATA[HALF:]),
    "zstd skippable first": SKIPPED + compressed(DATA),
}  # fmt: skip


def decompress(data: bytes, step: int) -> bytes:
    layer = Layer()
    pieces = []
    for start in range(0, len(data), step):
        pieces += list(layer.feed(memoryview(data)[start : start + step]))
    return b"".join([*pieces, *layer.rest()])


@pytest.mark.parametrize("step", [7, 4096, 1 << 20])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_bytes(form: str, step: int) -> None:
    assert decompress(FORMS[form], step) == DATA


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_truncated_layer_is_refused(form: str) -> None:
    with pytest.raises(CorruptError, match="truncated"):
        decompress(FORMS[form][:-20], 4096)


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_damaged_layer_is_refused(form: str) -> None:
    data = bytearray(FORMS[form])
    for at in range(50_000, 50_400):
        data[at] ^= 0x5A
    data[-1] ^= 1
    with pytest.raises(CorruptError, match=form):
        decompress(bytes(data), 4096)


@pytest.mark.parametrize(("magic", "name"), [(b"\xfd7zXZ\0", "xz"), (b"BZh91AY", "bzip2")])
def test_other_compressions_are_named(magic: bytes, name: str) -> None:
    with pytest.raises(UnsupportedError, match=name):
        decompress(magic + b"rest", 100)


@pytest.mark.parametrize("compress", [gzip.compress, compressed])
def test_bomb_comes_in_small_pieces(compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(bytes(200 << 20))
    assert max(map(len, Layer().feed(memoryview(bomb)))) <= 128 << 20


def test_layer_of_a_few_bytes_is_itself() -> None:
    assert decompress(b"abc", 1) == b"abc"
    assert decompress(b"", 1) == b""


def diff_id(data: bytes) -> DiffID:
    return DiffID("sha256:" + hashlib.sha256(data).hexdigest())


def read_all(stream: Stream) -> bytes:
    return b"".join(iter(lambda: stream.read(1000), b""))


def produce(data: bytes, error: Exception | None = None) -> Callable[..., None]:
    def run(take: Callable[[memoryview], None]) -> None:
        for start in range(0, len(data), 65536):
            take(memoryview(data)[start : start + 65536])
        if error is not None:
            raise error

    return run


def test_feed_passes_the_tar_and_verifies_it() -> None:
    assert through(produce(FORMS["gzip"]), read_all, diff_id=diff_id(DATA)) == DATA


def test_feed_ends_in_an_error_where_the_diff_id_is_another() -> None:
    with pytest.raises(CorruptError, match="configuration"):
        through(produce(FORMS["gzip"]), read_all, diff_id=diff_id(b"another"))


def test_producer_that_fails_is_believed_before_the_bytes_it_gave() -> None:
    error = UnavailableError("the registry is gone")
    with pytest.raises(UnavailableError, match="gone"):
        through(produce(FORMS["gzip"][:-30_000], error), read_all, diff_id=diff_id(DATA))
    with pytest.raises(UnavailableError, match="gone"):
        through(produce(b"\x1f\x8brubbish" * 9999, error), read_all, diff_id=diff_id(DATA))


def test_consumer_that_fails_stops_the_producer() -> None:
    def consume(stream: Stream) -> None:
        stream.read(10)
        raise OSError("disk full")

    def forever(take: Callable[[memoryview], None]) -> None:
        while True:
            take(memoryview(os.urandom(1 << 16)))

    with pytest.raises(OSError, match="disk full"):
        through(forever, consume, diff_id=diff_id(b""))


def test_consumer_that_stops_early_is_no_trouble() -> None:
    assert len(through(produce(DATA), lambda stream: stream.read(10), diff_id=diff_id(DATA))) == 10


def test_digest_mismatch_is_told_though_the_consumer_found_rubbish() -> None:
    def consume(stream: Stream) -> None:
        stream.read(10)
        raise CorruptError("not a tar")

    with pytest.raises(OrlopError, match="digest"):
        through(produce(DATA, CorruptError("wrong digest")), consume, diff_id=diff_id(DATA))
