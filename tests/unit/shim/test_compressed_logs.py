"""Logs whose rotated files are compressed."""

import gzip
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.shim.compression import Compressions
from orlop.shim.log import Log
from orlop.shim.logfile import LogFile
from orlop.shim.logread import LogReader
from orlop.shim.loop import Loop

LINES = [f"{number} {'x' * 150}\n" for number in range(1000)]


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def open_log(path: Path, loop: Loop, *, max_size: int = 100_000, max_files: int = 10) -> Log:
    compress = Compressions(loop).compress
    file = LogFile(str(path), max_size=max_size, max_files=max_files, on_rotated=compress)
    return Log(f"{path}.unfinished", [file])


def compressed(path: Path, loop: Loop) -> list[str]:
    """Wait until all rotated files of *path* are compressed; return all names."""
    while any(not name.endswith((".log", ".gz")) for name in os.listdir(path.parent)):
        loop.step()
    return sorted(os.listdir(path.parent))


def read(path: Path, tail: int | None = None) -> list[str]:
    reader = LogReader(str(path), tail=tail)
    try:
        return [entry.text for entry in reader.read()]
    finally:
        reader.close()


def test_rotated_files_are_gzip_that_others_can_read(tmp_path: Path, loop: Loop) -> None:
    path = tmp_path / "c.log"
    log = open_log(path, loop)
    for line in LINES:
        log.write("stdout", line.encode())
    log.close()
    assert compressed(path, loop) == ["c.log", "c.log.1.gz", "c.log.2.gz"]
    older = [gzip.decompress((tmp_path / f"c.log.{n}.gz").read_bytes()) for n in (2, 1)]
    entries = b"".join([*older, path.read_bytes()]).splitlines()
    assert [json.loads(entry)["log"] for entry in entries] == LINES
    assert (tmp_path / "c.log.1.gz").stat().st_size < 20_000


@pytest.mark.parametrize("tail", [None, 0, 1, 7, 500, 999, 1000, 2000])
def test_compressed_log_is_read_as_any_other(tmp_path: Path, loop: Loop, tail: int | None) -> None:
    path = tmp_path / "c.log"
    log = open_log(path, loop)
    for line in LINES:
        log.write("stdout", line.encode())
    log.close()
    compressed(path, loop)
    assert read(path, tail) == (LINES if tail is None else LINES[len(LINES) - tail :][:tail])


def test_oldest_compressed_file_goes(tmp_path: Path, loop: Loop) -> None:
    path = tmp_path / "c.log"
    log = open_log(path, loop, max_size=10_000, max_files=3)
    for line in LINES:
        log.write("stdout", line.encode())
        loop_once(loop)
    log.close()
    assert compressed(path, loop) == ["c.log", "c.log.1.gz", "c.log.2.gz"]
    kept = read(path)
    assert kept == LINES[-len(kept) :]
    assert len(kept) > 80


def test_follower_of_a_log_that_is_compressed_gets_each_line_once(
    tmp_path: Path, loop: Loop
) -> None:
    path = tmp_path / "c.log"
    log = open_log(path, loop, max_size=10_000, max_files=1000)
    reader = LogReader(str(path))
    seen: list[str] = []
    for number, line in enumerate(LINES):
        log.write("stdout", line.encode())
        if number % 150 == 100:
            compressed(path, loop)
            seen += [entry.text for entry in reader.more()]
    log.close()
    seen += [entry.text for entry in reader.more()]
    reader.close()
    assert seen == LINES


def test_compressed_file_that_is_torn_is_read_up_to_there(tmp_path: Path, loop: Loop) -> None:
    path = tmp_path / "c.log"
    log = open_log(path, loop)
    for line in LINES:
        log.write("stdout", line.encode())
    log.close()
    compressed(path, loop)
    torn = tmp_path / "c.log.2.gz"
    torn.write_bytes(torn.read_bytes()[:2000] + struct.pack("<Q", 0) * 100)
    found = read(path)
    assert found[-500:] == LINES[-500:]


def loop_once(loop: Loop) -> None:
    loop.later(0, lambda: None)
    loop.step()
