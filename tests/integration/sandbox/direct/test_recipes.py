"""Recipes: made anew when what they stand for changes, and kept for who was started by them."""

from pathlib import Path

import pytest

import orlop
from orlop.client.address import settings
from orlop.client.direct import connections
from orlop.errors import UnsupportedError
from orlop.sandbox.direct import start_message
from orlop.sandbox.options import Options
from tests.integration.engines import EngineProcess


def test_folder_in_the_place_of_another_is_seen(engine: EngineProcess, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "file").write_text("first")
    mounts = [f"{shown}:/shown:ro"]
    with orlop.Sandbox(engine=engine.url, mounts=mounts) as before:
        shown.rename(tmp_path / "aside")
        shown.mkdir()
        (shown / "file").write_text("second")
        with orlop.Sandbox(engine=engine.url, mounts=mounts) as after:
            assert after.run(["cat", "/shown/file"]).stdout == b"second"
        assert before.run(["cat", "/shown/file"]).stdout == b"first"
        with before.terminal(["cat", "/shown/file"]) as usual:  # which reads the recipe's bundle
            assert b"".join(usual) == b"first"


def test_who_may_trace_others_has_no_launcher_s_memory(engine: EngineProcess) -> None:
    where = settings(host=engine.url)
    message = start_message(Options(engine=engine.url))
    message["options"]["HostConfig"]["CapAdd"] = ["SYS_PTRACE"]
    free = connections(where)
    with free.lent() as connection, pytest.raises(UnsupportedError, match="may trace others"):
        connection.request(message)
