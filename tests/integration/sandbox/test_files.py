"""What is written to sandboxes: whose it is, of what it can be made, and how much it may be."""

import io
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import orlop
from orlop.errors import (
    ExhaustedError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import Face

_MIB = 1 << 20
#: Options with which a sandbox is started the one way, and the other.
_WAYS: dict[str, dict[str, Any]] = {"quick": {}, "usual": {"name": "usual-files"}}


def zeros(mib: int) -> Iterator[bytes]:
    for _ in range(mib):
        yield bytes(_MIB)


def shell(box: Face | orlop.Sandbox, script: str) -> bytes:
    done = box.run(["sh", "-ec", script])
    assert done.exit_code == 0, done
    return done.stdout


@pytest.mark.parametrize("way", _WAYS.values(), ids=_WAYS)
def test_what_is_written_is_new_and_its_users(
    face: Callable[..., Face], tmp_path: Path, way: dict[str, Any]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    os.chown(folder / "file", 12, 34)
    box = face(user="65534:100", **way)
    shell(box, "touch /tmp/before")
    box.files("write", "/tmp/f", b"a", mode=0o600)
    box.files("put", folder, "/tmp/put")
    box.files("write", "/tmp/of-root", b"", user="root")
    box.files("put", folder, "/tmp/of-root-too", user="0")
    shell(box, "echo b >>/tmp/f; rm /tmp/put/file; [ ! /tmp/before -nt /tmp/f ]")
    owners = "stat -c %u:%g /tmp/f /tmp/put /tmp/of-root /tmp/of-root-too/file"
    assert shell(box, owners) == b"65534:100\n65534:100\n0:0\n0:0\n"
    shell(box, "python3 -m zipfile -c /tmp/zip /tmp/f")  # which knows of no 1970
    with pytest.raises(InvalidArgumentError, match="unable to find user nobody-knows"):
        box.files("write", "/tmp/f", b"", user="nobody-knows")
    assert box.files("read", "/tmp/f") == b"ab\n"


def test_where_nobody_says_whose_it_is_it_is_roots(box: Face, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    os.chown(source, 12, 34)
    box.files("put", source, "/srv/put")
    box.files("write", "/srv/written", b"")
    assert shell(box, "stat -c %u:%g /srv/put /srv/written") == b"0:0\n0:0\n"
    with pytest.raises(NotFoundError, match=r"no folder .*/nowhere"):
        box.files("get", "/srv", tmp_path / "nowhere" / "copy")


def test_whatever_has_bytes_is_written(box: Face) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as pipe:
        with open(writer, "wb") as file:
            file.write(b"of a pipe")
        box.files("write", "/srv/pipe", pipe)
    with open("/proc/self/status", "rb") as made_up:
        box.files("write", "/srv/made-up", made_up)
    begun = io.BytesIO(b"not this, of a file")
    begun.seek(10)
    given = {
        "bytearray": bytearray(b"of an array"),
        "view": memoryview(b"of a view")[3:],
        "pieces": (piece for piece in (b"of ", bytearray(b"pie"), memoryview(b"ces"))),
        "file": begun,
        "nothing": [],
        "large": memoryview(b"0123456789abcdef" * 65536),
    }
    for name, data in given.items():
        box.files("write", f"/srv/{name}", data)
    written = shell(box, "cd /srv; cat pipe bytearray view pieces file nothing")
    assert written == b"of a pipeof an arraya viewof piecesof a file"
    assert b"VmRSS" in box.files("read", "/srv/made-up")
    assert box.files("read", "/srv/large") == b"0123456789abcdef" * 65536


@pytest.mark.parametrize("data", ["text", io.StringIO("text"), [b"x", "y"], [1], 1, None])
def test_what_has_no_bytes_is_refused_and_not_made(box: Face, data: object) -> None:
    with pytest.raises(InvalidArgumentError, match="bytes"):
        box.files("write", "/srv/no", data)
    assert shell(box, "ls /srv") == b""


def test_pieces_of_unknown_length_pass_with_little_memory(box: Face) -> None:
    tracemalloc.start()
    try:
        box.files("write", "/srv/big", zeros(64))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 * _MIB
    assert shell(box, "stat -c %s /srv/big") == b"%d\n" % (64 * _MIB)


def test_memory_that_is_allowed_is_all_that_is_written(
    engine: EngineProcess, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(bytes(40 * _MIB))
    hold = "x = b'1' * (40 << 20); print(1, flush=True); input()"
    with orlop.Sandbox(engine=engine.url, memory="64m") as box:
        with pytest.raises(NotFoundError, match=r"^no file or folder /nowhere in the sandbox$"):
            box.files.write("/nowhere/f", b"x")
        with pytest.raises(ExhaustedError, match="memory"):
            box.files.write("/srv/big", zeros(300))
        box.files.write("/srv/most", zeros(40))
        box.files.write("/srv/most", zeros(40))  # in its place
        with pytest.raises(ExhaustedError, match="memory"):
            box.files.put(tmp_path / "source", "/usr/local/more")
        assert shell(box, "ls /srv /usr/local/more 2>&1 || rm /srv/most").startswith(b"ls: ")
        with box.exec(["python3", "-c", hold], input=None) as process:
            output = iter(process)
            assert next(output) == ("stdout", b"1\n")
            with pytest.raises(ExhaustedError, match="memory"):
                box.files.write("/srv/most", zeros(40))
            process.send(b"\n", end=True)
            assert list(output) == []
        box.files.write("/srv/most", zeros(40))
        assert shell(box, "ls /srv") == b"most\n"


@pytest.mark.parametrize("way", _WAYS.values(), ids=_WAYS)
def test_read_refuses_what_is_larger_than_its_limit(
    face: Callable[..., Face], way: dict[str, Any]
) -> None:
    box = face(memory="32m", **way)
    shell(box, "truncate -s 2G /srv/sparse; printf 12345 >/srv/five; ln -s five /srv/link")
    tracemalloc.start()
    try:
        with pytest.raises(ExhaustedError) as refused:
            box.files("read", "/srv/sparse")
        assert tracemalloc.get_traced_memory()[1] < 8 * _MIB
    finally:
        tracemalloc.stop()
    assert str(refused.value).startswith("/srv/sparse has 2147483648 bytes, more than the limit of")
    assert "limit=" in str(refused.value)
    assert "files.stream()" in str(refused.value)
    assert box.files("read", "/srv/link", limit=5) == b"12345"
    assert box.files("read", "/srv/link", limit=None) == b"12345"
    with pytest.raises(ExhaustedError, match="/srv/link has 5 bytes, more than the limit of 4"):
        box.files("read", "/srv/link", limit=4)
    with pytest.raises(InvalidArgumentError, match="invalid limit -1"):
        box.files("read", "/srv/five", limit=-1)


def test_stream_has_no_limit_and_needs_little_memory(engine_box: orlop.Sandbox) -> None:
    shell(engine_box, "truncate -s 256M /srv/sparse")
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in engine_box.files.stream("/srv/sparse"))
        assert tracemalloc.get_traced_memory()[1] < 8 * _MIB
    finally:
        tracemalloc.stop()
    assert size == 256 * _MIB


def test_get_refuses_more_than_its_limit_and_leaves_holes_as_holes(
    box: Face, tmp_path: Path
) -> None:
    shell(box, "mkdir /srv/d; truncate -s 64M /srv/d/a; printf x >>/srv/d/a; cp /srv/d/a /srv/d/b")
    with pytest.raises(ExhaustedError, match=r"/srv/d has more than the limit of .* \(.*limit="):
        box.files("get", "/srv/d", tmp_path / "refused", limit=100 * _MIB)
    assert not (tmp_path / "refused").exists()
    box.files("get", "/srv/d", tmp_path / "copy", limit=130 * _MIB)
    for name in ("a", "b"):
        copy = tmp_path / "copy" / name
        assert copy.stat().st_size == 64 * _MIB + 1
        assert copy.stat().st_blocks * 512 < _MIB
        assert copy.read_bytes() == bytes(64 * _MIB) + b"x"
    shell(box, "truncate -s 2G /srv/d/c")
    with pytest.raises(ExhaustedError, match=r"/srv/d has more than the limit of"):
        box.files("get", "/srv/d", tmp_path / "again")


@pytest.mark.parametrize(
    ("options", "path", "room"),
    [
        ({}, "/", 1 << 30),
        ({"disk": "3m"}, "/", 3 * _MIB),
        ({"read_only": True}, "/tmp", 1 << 30),
        ({"read_only": True, "disk": "3m"}, "/tmp", 3 * _MIB),
    ],
)
def test_a_sandbox_has_a_small_disk_unless_it_asks_for_more(
    engine: EngineProcess, options: dict[str, Any], path: str, room: int
) -> None:
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    with orlop.Sandbox(engine=engine.url, **options) as box:
        blocks, size, inodes = map(int, shell(box, f"stat -f -c '%b %S %c' {path}").split())
        assert blocks * size == min(room, half)
        assert inodes == max(blocks, 1024)  # each takes memory that does not count as its size


def test_full_disk_is_told_and_keeps_no_half_of_a_file(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url, disk="4m") as box:
        with pytest.raises(ExhaustedError, match="No space left"):
            box.files.write("/srv/big", bytes(8 * _MIB))
        box.files.write("/srv/small", bytes(2 * _MIB))
        assert shell(box, "ls /srv") == b"small\n"


def test_what_the_kernel_tells_is_read(box: Face, tmp_path: Path) -> None:
    for path in ("/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"):
        assert box.files("read", path) == box.run(["cat", path]).stdout != b""
    with pytest.raises(InvalidArgumentError, match="no size"):
        box.files("read", "/proc/1/pagemap")


def test_memory_can_be_written_to_where_nothing_else_can(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url, read_only=True, memory="64m") as box:
        box.files.write("/tmp/f", b"x")
        assert shell(box, "cat /tmp/f") == b"x"
        with pytest.raises(ExhaustedError, match="memory"):
            box.files.write("/tmp/f", zeros(80))
        with pytest.raises(PermissionDeniedError, match="read-only"):
            box.files.write("/srv/f", b"x")
