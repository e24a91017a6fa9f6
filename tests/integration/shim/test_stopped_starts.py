"""Starts that somebody keeps from their end: undone in time, and nobody else waits."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.runtime.cgroups.layout import detect

from .harness import FailedError, Shim, eventually


@contextlib.contextmanager
def frozen(shim: Shim, controller: str) -> Iterator[None]:
    """Have all of the test's containers frozen, in the freezer or in the unified hierarchy."""
    hierarchies = [h for h in detect().v1 if controller in h.controllers]
    if not controller and (unified := detect().unified):
        hierarchies = [unified]
    if not hierarchies:
        pytest.skip(f"this host has no such hierarchy: {controller or 'v2'}")
    folder = Path(hierarchies[0].mountpoint + shim.parent)
    folder.mkdir(exist_ok=True)
    state = folder / ("freezer.state" if controller else "cgroup.freeze")
    state.write_text("FROZEN" if controller else "1")
    yield
    state.write_text("THAWED" if controller else "0")


@pytest.mark.parametrize("controller", ["freezer", ""])
def test_start_in_a_frozen_cgroup_is_refused_and_leaves_nothing(
    shim: Shim, controller: str
) -> None:
    shim.run_to_end("before", "true")
    with frozen(shim, controller):
        with pytest.raises(FailedError, match="is frozen"):
            shim.request(**shim.start_message("late", "true"))
        assert shim.request(op="list") == []
        assert not [path for path in shim.cgroups() if path.name == "late"]
    assert shim.run_to_end("late", "true")["status"] == 0
    assert shim.request(op="list") == []


@pytest.mark.parametrize("controller", ["freezer", ""])
def test_exec_that_comes_to_no_end_leaves_its_container_as_it_was(
    shim: Shim, controller: str
) -> None:
    shim.start("stays", "sleep", "100")
    with frozen(shim, controller):
        order = {"op": "exec", "id": "stays", "exec_id": "e", "timeout_s": 0.5}
        process = {"args": ["true"], "cwd": "/", "env": ["PATH=/bin"], "terminal": False}
        streams = {"terminal": False, "stdin": False, "stdin_once": True, "log": None}
        with pytest.raises(FailedError, match="did not run in time"):
            shim.request(**order, process=process, io=streams)
        assert [item["id"] for item in shim.request(op="list")] == ["stays"]
    assert shim.execute("stays", "f", "true")["pid"]
    assert shim.wait_exit("stays", "f")["status"] == 0


def test_container_that_stops_what_joins_it_stops_no_list(shim: Shim) -> None:
    script = "while :; do kill -STOP -1; done 2>/dev/null"
    evil = shim.start("evil", "sh", "-c", script)
    shim.linux = {
        "namespaces": [
            {"type": "pid", "path": f"/proc/{evil['pid']}/ns/pid"},
            *({"type": kind} for kind in ("mount", "ipc", "uts", "network")),
        ]
    }
    for number in range(10):
        shim.client.post({**shim.start_message(f"c{number}", "true"), "timeout_s": 1})
        assert "evil" in {item["id"] for item in shim.request(op="list")}
    shim.request(op="signal", id="evil", signal=9)
    shim.wait_exit("evil")
    eventually(lambda: not [item for item in shim.request(op="list") if item.get("running")])
