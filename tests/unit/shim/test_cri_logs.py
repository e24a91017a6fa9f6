"""The CRI's log format: as a kubelet reads it, and as we read it ourselves."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orlop.shim.log import Log
from orlop.shim.logfile import MAX_PARTIAL, LogFile, cri_entries, cut
from orlop.shim.logread import LogReader

TIME = "2026-01-02T03:04:05.000000006Z"
LINE = re.compile(rb"(\S+) (stdout|stderr) ([FP]) (.*)", re.DOTALL)


def joined(lines: list[bytes]) -> bytes:
    """Return what a kubelet makes of a log's lines: parts are joined up to a full line."""
    text = b""
    for line in lines:
        match = LINE.fullmatch(line)
        assert match is not None, line
        assert match[1].decode() == TIME
        text += match[4] + (b"\n" if match[3] == b"F" else b"")
    return text


@given(st.lists(st.binary(max_size=3 * MAX_PARTIAL), min_size=1, max_size=4))
def test_every_output_can_be_put_together_again(lines: list[bytes]) -> None:
    output = b"\n".join(line.replace(b"\n", b"") for line in lines) + b"\n"
    pieces, rest = cut(output)
    assert rest == b""
    log = b"".join(cri_entries(piece, stream="stdout", time_text=TIME) for piece in pieces)
    assert joined(log.removesuffix(b"\n").split(b"\n")) == output


def opened(path: Path) -> tuple[Log, LogFile]:
    file = LogFile(str(path), max_size=0, max_files=1, is_cri=True)
    return Log(f"{path}.unfinished", [file]), file


def read(path: Path, **options: int) -> list[tuple[str, str]]:
    reader = LogReader(str(path), **options)  # type: ignore[arg-type]
    try:
        return [(entry.stream, entry.text) for entry in reader.read()]
    finally:
        reader.close()


def test_a_log_is_read_back_with_its_streams_and_parts(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log, _ = opened(path)
    log.write("stdout", b"one\n\n{two}\n")
    log.write("stderr", b"x" * (MAX_PARTIAL + 5) + b"\nend without a newline")
    log.close()
    assert read(path) == [
        ("stdout", "one\n"),
        ("stdout", "\n"),
        ("stdout", "{two}\n"),
        ("stderr", "x" * MAX_PARTIAL),
        ("stderr", "xxxxx\n"),
        ("stderr", "end without a newline\n"),
    ]
    assert read(path, tail=1) == [("stderr", "end without a newline\n")]
    assert read(path, since_ns=1 << 62) == []
    assert len(read(path, since_ns=1)) == 6


def test_a_log_that_was_moved_away_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path, moved = tmp_path / "0.log", tmp_path / "0.log.1"
    log, file = opened(path)
    log.write("stdout", b"before\nin the middle ")
    path.rename(moved)
    log.write("stdout", b"of a line\n")
    file.reopen()
    log.write("stdout", b"after\n")
    log.close()
    assert read(moved) == [("stdout", "before\n"), ("stdout", "in the middle of a line\n")]
    assert [text for _, text in read(path)][-1] == "after\n"


def test_what_is_no_entry_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"no entry\n\n2026 stdout F x\n\xff\xfe\n" + f"{TIME} stdout F ok\n".encode())
    assert read(path) == [("stdout", "ok\n")]
