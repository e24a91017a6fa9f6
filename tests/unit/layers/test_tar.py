"""Reading tars that others wrote, and writing tars that others read."""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.errors import CorruptError
from orlop.layers.header import (
    BLOCK,
    CHAR,
    FIFO,
    FILE,
    FOLDER,
    LINK,
    SYMLINK,
    Entry,
    clean,
    number,
    parse_pax,
)
from orlop.layers.tar import TarReader
from orlop.layers.write import TarWriter

TIME_S = 1_700_000_000


class Dripping:
    """A stream that gives as little as it may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file, self._step = io.BytesIO(data), step

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(min(size, self._step) if size >= 0 else self._step)


def read(data: bytes, *, step: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    reader = TarReader(Dripping(data, step))
    return [
        (entry, b"".join(bytes(piece) for piece in reader.pieces(entry.stored)))
        if entry.kind == FILE and entry.sparse is None
        else (entry, b"")
        for entry in reader
    ]


names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=150
).filter(lambda name: not name.endswith("/"))
formats = st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@given(
    st.lists(
        st.tuples(
            names,
            st.binary(max_size=1500),
            st.integers(0, 0o7777),
            st.integers(0, 4_294_967_294),
            st.integers(-(1 << 31), 1 << 33),
        ),
        max_size=6,
    ),
    formats,
    st.sampled_from([1, 100, 511, 512, 513, 1 << 20]),
)
def test_reads_what_tarfile_writes(
    files: list[tuple[str, bytes, int, int, int]], kind: int, step: int
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for name, data, mode, uid, mtime in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.gid, info.mtime = len(data), mode, uid, uid, mtime
            tar.addfile(info, io.BytesIO(data))
    found = [
        (os.fsdecode(entry.name), data, entry.mode, entry.uid, entry.mtime_ns // 10**9)
        for entry, data in read(out.getvalue(), step=step)
    ]
    assert found == files


entries = st.builds(
    Entry,
    name=names.map(os.fsencode),
    kind=st.sampled_from([FILE, FOLDER, SYMLINK, LINK, CHAR, FIFO]),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 4_294_967_294),
    gid=st.integers(0, 4_294_967_294),
    size=st.just(0),
    stored=st.just(0),
    mtime_ns=st.integers(-(1 << 60), 1 << 62),
    link=names.map(os.fsencode),
    major=st.just(3),
    minor=st.integers(0, (1 << 20) - 1),
    xattrs=st.dictionaries(st.text("abc.", min_size=1), st.binary(max_size=40), max_size=3),
)


@given(st.lists(st.tuples(entries, st.binary(max_size=1500)), max_size=5))
def test_reads_what_it_writes(items: list[tuple[Entry, bytes]]) -> None:
    out = io.BytesIO()
    writer = TarWriter(out)
    for entry, data in items:
        entry.size = entry.stored = len(data) if entry.kind == FILE else 0
        writer.add(entry, [data] if entry.size else ())
    writer.close()
    back = read(out.getvalue())
    assert [data for _, data in back] == [d if e.kind == FILE else b"" for e, d in items]
    for (entry, _), (got, _) in zip(items, back, strict=True):
        fields = ("name", "kind", "mode", "uid", "gid", "size", "mtime_ns", "link")
        assert [getattr(got, f) for f in fields] == [getattr(entry, f) for f in fields]
        assert (got.xattrs or {}) == entry.xattrs


@given(st.binary(max_size=3000))
def test_rubbish_is_read_or_refused(data: bytes) -> None:
    with suppress(CorruptError):
        read(data)


@given(st.data())
def test_damaged_tar_is_read_or_refused(choice: st.DataObject) -> None:
    data = bytearray(sample())
    for _ in range(3):
        at = choice.draw(st.integers(0, len(data) - 1))
        data[at] = choice.draw(st.integers(0, 255))
    with suppress(CorruptError):
        read(bytes(data))


def sample() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("ü" * 120)
        info.size, info.mtime = 3, TIME_S + 0.5
        info.pax_headers = {"SCHILY.xattr.user.x": "y"}
        tar.addfile(info, io.BytesIO(b"abc"))
    return out.getvalue()


@pytest.mark.parametrize("cut", [1, 511, 513, 1023, 1500, 1537])
def test_truncated_tar_is_refused(cut: int) -> None:
    with pytest.raises(CorruptError, match=r"truncated|malformed"):
        read(sample()[:cut])


def test_tar_without_closing_blocks_is_whole() -> None:
    data = sample()
    assert len(read(data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % BLOCK))) == 1


def test_stream_is_read_to_its_end() -> None:
    stream = io.BytesIO(sample() + b"after the end")
    list(TarReader(stream))
    assert stream.read() == b""


def test_unread_data_is_skipped() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("a", "b"):
            info = tarfile.TarInfo(name)
            info.size = 3_000_000
            tar.addfile(info, io.BytesIO(bytes(3_000_000)))
    assert [entry.name for entry in TarReader(io.BytesIO(out.getvalue()))] == [b"a", b"b"]


@pytest.mark.parametrize("arguments", [["--format=gnu"], *(
    ["--format=posix", f"--sparse-version={version}"] for version in ("0.0", "0.1", "1.0")
)])  # fmt: skip
@pytest.mark.parametrize("count", [1, 3, 60])
def test_sparse_files_of_gnu_tar(tmp_path: Path, arguments: list[str], count: int) -> None:
    with open(tmp_path / "holes", "wb") as file:
        for index in range(count):
            file.seek(index * 200_000 + 8192)
            file.write(b"%04d" % index * 1024)
        file.truncate(count * 200_000 + 100_000)
    command = ["tar", "-C", str(tmp_path), *arguments, "--sparse", "-cf", "-", "holes"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(data) < count * 20_000 + 20_000
    reader = TarReader(io.BytesIO(data))
    entry = next(iter(reader))
    assert entry.name == b"holes"
    assert filled(entry, reader) == (tmp_path / "holes").read_bytes()


def filled(entry: Entry, reader: TarReader) -> bytes:
    whole = bytearray(entry.size)
    assert entry.sparse is not None
    for offset, size in entry.sparse:
        whole[offset : offset + size] = b"".join(reader.pieces(size))
    return bytes(whole)


def sparse_maps() -> Iterator[tuple[str, str]]:
    yield "overlapping", "0,512,100,512"
    yield "beyond the end", "5000,512"
    yield "more than the data", "0,512,600,1024"
    yield "less than the data", "0,1"
    yield "odd", "0"
    yield "negative", "-1,512"
    yield "no numbers", "a,b"


@pytest.mark.parametrize("text", [text for _, text in sparse_maps()])
def test_wrong_sparse_map_is_refused(text: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("x")
        info.size = 1024
        info.pax_headers = {"GNU.sparse.size": "4096", "GNU.sparse.map": text}
        tar.addfile(info, io.BytesIO(bytes(1024)))
    with pytest.raises(CorruptError):
        for _ in TarReader(io.BytesIO(out.getvalue())):
            pass


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (b"a/b", b"a/b"), (b"./a//b/", b"a/b"), (b"/a", b"a"), (b"../../a", b"a"),
        (b"a/../../b", b"b"), (b"a/./b/..", b"a"), (b".", b""), (b"", b""),
        (b"a..b/.c", b"a..b/.c"),
    ],
)  # fmt: skip
def test_names_are_made_simple_and_stay_below_the_root(given: bytes, path: bytes) -> None:
    assert clean(given) == path


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644), (b"   644 \0", 0o644), (b"\0" * 8, 0), (b" " * 8, 0),
        (b"\x80" + b"\0" * 6 + b"\x05", 5), (b"\xff" * 8, -1), (b"\xff" * 11 + b"\xfe", -2),
    ],
)  # fmt: skip
def test_numbers_in_octal_and_base_256(field: bytes, value: int) -> None:
    assert number(field) == value


@pytest.mark.parametrize(
    "field",
    [b"0000_644", b"0x12\0\0\0\0", b"-7\0\0\0\0\0\0", b"9\0\0\0\0\0\0\0", b"\x80" + b"\xff" * 11],
)  # fmt: skip
def test_malformed_numbers_are_refused(field: bytes) -> None:
    with pytest.raises(CorruptError):
        number(field)


@pytest.mark.parametrize(
    "data",
    [b"x", b"5 a=b", b"99 a=b\n", b"6 a=b\n\n", b"0 a=b\n", b"-6 a=b\n", b"5 =b\n", b"5 ab\n",
     b"\xb2 a=b\n", b"9" * 30 + b" a=b\n"],
)  # fmt: skip
def test_malformed_pax_records_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        parse_pax(data)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_huge_header_is_refused_before_it_is_read(kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 1 << 30
    with pytest.raises(CorruptError, match="header of"):
        read(info.tobuf())
