"""A process's life in the shim's hands: start, output, end."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Failed, Shim, eventually


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    shim = Shim(tmp_path)
    yield shim
    shim.close()


def test_output_and_exit_code_of_a_container_are_kept(shim: Shim) -> None:
    event = shim.run_to_end("one", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (event["status"], event["signal"], event["oom"]) == (3, 0, False)
    entries = [json.loads(line) for line in shim.log_path("one").read_text().splitlines()]
    assert {(entry["stream"], entry["log"]) for entry in entries} == {
        ("stdout", "out\n"),
        ("stderr", "err\n"),
    }
