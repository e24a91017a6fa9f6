"""The json-file log: what is written can be read, whatever it is and whenever it rotates."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.model.stamp import stamp
from orlop.shim.log import Log
from orlop.shim.logfile import MAX_PARTIAL, LogFile, cut, entries
from orlop.shim.logread import LogReader, parse

TIME = "2026-01-02T03:04:05.000000006Z"


def logs(text: str) -> list[str]:
    return [json.loads(line)["log"] for line in text.encode().splitlines()]


def open_log(path: Path, *, max_size: int = 0, max_files: int = 1) -> Log:
    file = LogFile(str(path), max_size=max_size, max_files=max_files)
    return Log(f"{path}.unfinished", [file])


def write(path: Path, *lines: bytes, max_size: int = 0, max_files: int = 1) -> None:
    log = open_log(path, max_size=max_size, max_files=max_files)
    for line in lines:
        log.write("stdout", line)
    log.close()


def read(path: Path, **options: int) -> list[str]:
    reader = LogReader(str(path), **options)  # type: ignore[arg-type]
    try:
        return [entry.text for entry in reader.read()]
    finally:
        reader.close()


@given(st.lists(st.text(), min_size=1, max_size=5), st.booleans())
def test_every_text_becomes_one_json_object_a_line(lines: list[str], finished: bool) -> None:
    lines = [line.replace("\n", "") for line in lines]
    text = "\n".join(lines) + ("\n" if finished else "")
    if text:
        piece = text.encode("utf-8", "replace")
        encoded = entries(piece, stream="stdout", time_text=TIME)
        assert "".join(logs(encoded)) == piece.decode()
        assert encoded.count("\n") == len(encoded.encode().splitlines())


@pytest.mark.parametrize("text", ['\\n"', "a\x7fb\n\x7f\n", "\\\n\\n\n", "é\u2028\n", "\t\0\r\n"])
def test_awkward_characters_survive(text: str) -> None:
    assert "".join(logs(entries(text.encode(), stream="stderr", time_text=TIME))) == text


def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    assert logs(entries(b"a\xffb\n", stream="stdout", time_text=TIME)) == ["a\ufffdb\n"]


@given(st.binary(max_size=5 * MAX_PARTIAL))
def test_cutting_loses_nothing_and_keeps_pieces_small(data: bytes) -> None:
    pieces, rest = cut(data)
    assert b"".join(pieces) + rest == data
    assert all(0 < len(piece) <= MAX_PARTIAL for piece in pieces)
    assert b"\n" not in rest
    assert len(rest) < MAX_PARTIAL


def test_long_line_becomes_parts_that_end_at_a_character(tmp_path: Path) -> None:
    path = tmp_path / "log"
    line = "é" * MAX_PARTIAL + "x"
    write(path, b"y" + line.encode(), b"\n")
    parts = read(path)
    assert "".join(parts) == "y" + line + "\n"
    assert len(parts) == 3
    assert "\ufffd" not in "".join(parts)


def test_unfinished_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, b"one", b" line\nand", b" another")
    assert read(path) == ["one line\n", "and another"]


def test_rotation_keeps_so_many_files_of_such_a_size(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [b"line %d\n" % number for number in range(1000)]
    write(path, *lines, max_size=5000, max_files=3)
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size <= 5000 for file in tmp_path.iterdir())
    kept = read(path)
    assert [line.encode() for line in kept] == lines[-len(kept) :]
    assert len(kept) > 100


def test_single_file_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, *[b"line %d\n" % number for number in range(100)], max_size=1000)
    assert path.stat().st_size <= 1000
    assert read(path)[-1] == "line 99\n"


@pytest.mark.parametrize("tail", [0, 1, 7, 999, 1000, 2000])
def test_tail_gives_the_last_entries_of_all_files(tmp_path: Path, tail: int) -> None:
    path = tmp_path / "log"
    lines = [f"{number} {'x' * 150}\n" for number in range(1000)]
    write(path, *[line.encode() for line in lines], max_size=100_000, max_files=10)
    assert read(path, tail=tail) == (lines[-tail:] if tail else [])


def test_since_and_until_bound_the_times(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open(path, "w") as file:
        for second in range(10):
            text = stamp(second * 1_000_000_000)
            file.write(entries(b"%d\n" % second, stream="stdout", time_text=text))
    assert read(path, since_ns=3_000_000_000, until_ns=5_000_000_000) == ["3\n", "4\n", "5\n"]


def test_follower_misses_nothing_when_the_log_rotates(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = open_log(path, max_size=2000, max_files=4)
    reader = LogReader(str(path))
    seen = [entry.text for entry in reader.read()]
    for number in range(300):
        log.write("stdout", b"line %d\n" % number)
        if number % 40 == 0:
            seen += [entry.text for entry in reader.more()]
    seen += [entry.text for entry in reader.more()]
    log.close()
    reader.close()
    assert seen == [f"line {number}\n" for number in range(300)]


def test_follower_of_a_log_that_does_not_exist_yet_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    reader = LogReader(str(path))
    assert list(reader.read()) == []
    write(path, b"here\n")
    assert [entry.text for entry in reader.more()] == ["here\n"]
    reader.close()


def test_log_that_cannot_be_written_says_later_what_it_lost(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "log"
    log = open_log(path)
    log.write("stdout", b"lost\nlost too\n")
    path.parent.mkdir()
    log.write("stdout", b"kept\n")
    log.close()
    lost, kept = read(path)
    assert kept == "kept\n"
    assert lost.startswith("orlop: 2 log entries lost: No such file")


def test_torn_entry_at_the_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, b"whole\n")
    with open(path, "a") as file:
        file.write('{"log":"to')
    write(path, b"next\n")
    assert read(path) == ["whole\n", "next\n"]


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b'{"log":1}', b"\xff"])
def test_line_that_is_no_entry_is_skipped(line: bytes) -> None:
    assert parse(line) is None


@pytest.mark.parametrize("line", [b"\n", b"\0\n", b"\xff\n", b"x\n"])
def test_no_file_of_a_flood_of_short_lines_is_larger_than_its_limit(
    tmp_path: Path, line: bytes
) -> None:
    write(tmp_path / "log", *[line * 40_000] * 3, max_size=100_000, max_files=3)
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sizes.keys() == {"log", "log.1", "log.2"}
    assert all(90_000 < size <= 100_000 for size in list(sizes.values())[1:])
    assert max(sizes.values()) <= 100_000


def test_line_without_end_leaves_files_of_one_entry_at_most(tmp_path: Path) -> None:
    write(tmp_path / "log", *[b"\0" * (64 << 10)] * 20, max_size=1000, max_files=3)
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size < 6 * MAX_PARTIAL + 200 for file in tmp_path.iterdir())


def test_rotation_looks_only_at_files_that_are_there(tmp_path: Path) -> None:
    write(tmp_path / "log", *[b"line\n"] * 5, max_size=1, max_files=1 << 40)
    assert len(list(tmp_path.iterdir())) == 5
    assert len(read(tmp_path / "log")) == 5
