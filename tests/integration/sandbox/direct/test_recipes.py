"""Recipes: made anew when what they stand for changes, and kept for who was started by them."""

import os
from pathlib import Path

import pytest

import orlop
from orlop.client.address import settings
from orlop.client.direct import connections
from orlop.errors import UnsupportedError
from orlop.sandbox.options import Options
from orlop.sandbox.ways.direct import start_message
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.direct.conftest import serving
from tests.integration.sandbox.direct.ways import IMAGE


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


def test_an_engine_bound_to_a_processor_does_not_bind_its_containers(tmp_path: Path) -> None:
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        pytest.skip("there is one processor")
    with serving(tmp_path, within=("taskset", "-c", str(first))) as bound:
        with orlop.Sandbox(image=IMAGE, engine=bound.url) as box:
            for _ in range(2):
                assert int(box.run(["busybox", "nproc"]).stdout) >= 1 + len(others)
        assert int(bound.out("run", "--rm", IMAGE, "busybox", "nproc")) >= 1 + len(others)
