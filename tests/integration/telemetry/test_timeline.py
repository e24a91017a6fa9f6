"""orlop run --timeline, and GET /containers/ID/timeline."""

import json
from pathlib import Path
from typing import Any

import pytest

from orlop.client.address import settings
from orlop.client.timed import TimedClient
from orlop.errors import NotFoundError
from tests.integration.telemetry.conftest import IMAGE, Watched

Events = dict[str, dict[str, Any]]


def events_of(path: Path) -> Events:
    """Return the events of a trace by room and name."""
    rows = json.loads(path.read_text())["traceEvents"]
    return {f"{row['cat']}/{row['name']}": row for row in rows if row["ph"] == "X"}


def within(inner: dict[str, Any], outer: dict[str, Any]) -> bool:
    """Whether one lies in the other; microseconds, of which the nanoseconds are rounded."""
    inner_end, outer_end = (round(event["ts"] + event["dur"], 3) for event in (inner, outer))
    return bool(outer["ts"] <= inner["ts"] and inner_end <= outer_end)


def test_trace_file_tells_the_way_from_the_request_to_the_exit(
    watched: Watched, tmp_path: Path
) -> None:
    path = tmp_path / "trace.json"
    words = ("--timeline", str(path), "--rm", IMAGE, "sh", "-c", "echo out; sleep 0.3; exit 7")
    done = watched.cli.run("run", *words)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"")
    events = events_of(path)
    for inner, outer in (
        ("engine/create", "client/POST create"),
        ("client/POST create", "client/run"),
        ("engine/start", "client/POST start"),
        ("engine/ask_shim", "engine/start"),
        ("shim/make_process", "engine/ask_shim"),
        ("child/child", "engine/ask_shim"),
        ("child/make_mounts", "child/child"),
        ("child/execve", "child/child"),
        ("container/program", "client/run"),
        ("engine/remove", "client/run"),
    ):
        assert within(events[inner], events[outer]), (inner, outer)
    began, exit_ = events["child/execve"]["ts"], events["engine/record_exit"]
    assert exit_["ts"] - began >= 300_000  # microseconds that it has slept
    assert events["container/program"]["ts"] >= began
    assert events["engine/remove"]["ts"] >= exit_["ts"] + exit_["dur"] - 1


def test_waterfall_comes_after_all_else_and_on_stderr_only(watched: Watched) -> None:
    words = ("--timeline", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2")
    done = watched.cli.run("run", *words)
    assert (done.returncode, done.stdout) == (0, b"out\n")
    first, heading, *rows = done.stderr.decode().splitlines()
    assert (first, heading.split()) == ("err", ["begin", "took"])
    names = [" ".join(row.split()[3:5]) for row in rows]
    for name in ("client run", "engine start", "child execve", "container program"):
        assert name in names
    assert watched.cli.containers() == []


def test_file_that_cannot_be_written_is_refused_before_anything_runs(
    watched: Watched, tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "trace.json"
    mark = tmp_path / "mark"
    words = (f"--timeline={path}", "-v", f"{tmp_path}:/t", "--rm", IMAGE, "touch", "/t/mark")
    done = watched.cli.run("run", *words)
    assert done.returncode == 125
    assert done.stderr.decode() == (
        f"orlop: cannot write timeline {path}: no such file or directory\n"
    )
    assert not mark.exists()


def test_timeline_does_not_need_what_the_filter_forbids(watched: Watched, tmp_path: Path) -> None:
    """Neither to read the clock nor to write: one that forbids both kills who tries."""
    names = ["clock_gettime", "gettimeofday", "time", "write", "writev", "pwrite64"]
    profile = tmp_path / "profile.json"
    rules = [{"names": names, "action": "SCMP_ACT_KILL_PROCESS"}]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    path = tmp_path / "trace.json"
    words = (f"--timeline={path}", "--security-opt", f"seccomp={profile}", "--rm", IMAGE)
    done = watched.cli.run("run", *words, "sh", "-c", "exit 5")
    assert (done.returncode, done.stderr) == (5, b"")
    assert "child/execve" in events_of(path)


def test_client_library_reads_it_and_only_of_what_was_asked_for(watched: Watched) -> None:
    with TimedClient(settings(root=str(watched.root), run=str(watched.run))) as client:
        body = {"Image": IMAGE, "Cmd": ["sleep", "60"]}
        identifier = str(client.containers.create(body)["Id"])
        client.containers.start(identifier)
        rooms = {step.room for step in client.timeline(identifier)}
        assert rooms == {"client", "engine", "shim", "child"}  # and no program yet: it runs
        client.containers.remove(identifier, force=True)
        names = [step.name for step in client.containers.timeline(identifier)]
        assert names.index("start") < names.index("program") < names.index("remove")
        untold = watched.cli.out("create", IMAGE, "true")
        watched.cli.out("start", untold)
        with pytest.raises(NotFoundError, match="no timeline of container"):
            client.containers.timeline(untold)
        watched.cli.out("rm", "-f", untold)
