"""Logs quote what strangers have written: none of it begins a line or commands a terminal."""

import logging
import os
from pathlib import Path

import pytest

from orlop.programs.oci.log import Log
from orlop.programs.serving import Format

EVIL = "bad\x1b]0;title\x07\u202e\nforged"


def test_a_record_of_the_engine_is_one_line() -> None:
    record = logging.makeLogRecord({"msg": EVIL, "image": EVIL})
    text = Format("%(message)s").format(record)
    assert text.splitlines() == [text]
    assert text.isprintable()


def test_a_traceback_in_the_engines_log_has_its_lines_and_no_orders() -> None:
    try:
        Path(f"/nowhere/{EVIL}").read_text()
    except OSError as error:
        record = logging.makeLogRecord({"exc_info": (type(error), error, error.__traceback__)})
    lines = Format("%(message)s").format(record).splitlines()
    assert len(lines) > 3
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_message_of_the_runtime_is_one_line(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Log(str(tmp_path / "log"), kind).error(EVIL)
    for text in ((tmp_path / "log").read_text(), capfd.readouterr().err):
        assert text.endswith("\n")
        assert text[:-1].isprintable(), text
    assert os.listdir(tmp_path) == ["log"]
