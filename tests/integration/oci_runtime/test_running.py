"""What is asked of and done to a container that runs: processes, freezing, limits, counters."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.oci_runtime.program import OCIBundle, Program, wait_for


def cgroup(program: Program, name: str, controller: str) -> Path:
    record = json.loads((program.root / name / "state.json").read_text())
    return Path(record["cgroup_paths"][controller])


def test_ps_shows_the_containers_processes(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle, "sh", "-c", "sleep 607 & wait")
    wait_for(lambda: "sleep" in program.ok("ps", name, "-o", "comm,pid"))
    pids = json.loads(program.ok("ps", "-f", "json", name))
    head, *rows = program.ok("ps", name).splitlines()
    assert head.split()[:2] == ["UID", "PID"]
    assert sorted(int(row.split()[1]) for row in rows) == pids
    head, *rows = program.ok("ps", name, "-o", "comm,pid").splitlines()
    shown = {int(pid): comm for comm, pid in map(str.split, rows)}
    assert sorted(shown) == pids
    assert shown.pop(program.pid(name)) == "sh"
    assert [*shown.values()] == ["sleep"]
    assert "shows no PID" in program.refused("ps", name, "-o", "comm")


def test_pausing_stops_and_resuming_goes_on(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle, "sh", "-c", "while :; do echo x; sleep 0.01; done")
    wait_for(lambda: bundle.output.stat().st_size > 0)
    program.ok("pause", name)
    assert program.state(name)["status"] == "paused"
    said = bundle.output.read_text()
    time.sleep(0.1)
    assert bundle.output.read_text() == said
    assert "container not running" in program.refused("pause", name)
    assert "is not stopped: paused" in program.refused("delete", name)
    program.ok("resume", name)
    assert program.state(name)["status"] == "running"
    wait_for(lambda: bundle.output.read_text() != said)
    assert "container not paused" in program.refused("resume", name)


def test_a_paused_container_can_be_killed(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    program.ok("pause", name)
    program.ok("kill", name, "KILL")
    program.ended(name)


def test_limits_change_by_options(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    options = ["--memory=64m", "--memory-swap", "128MiB", "--memory-reservation=32m"]
    options += ["--pids-limit", "77", "--cpu-share", "512", "--cpu-quota", "50000"]
    program.ok("update", *options, "--cpu-period=100000", "--cpuset-cpus", "0", name)
    for controller, file, value in (
        ("memory", "memory.limit_in_bytes", 64 << 20),
        ("memory", "memory.memsw.limit_in_bytes", 128 << 20),
        ("memory", "memory.soft_limit_in_bytes", 32 << 20),
        ("pids", "pids.max", 77),
        ("cpu", "cpu.shares", 512),
        ("cpu", "cpu.cfs_quota_us", 50000),
        ("cpu", "cpu.cfs_period_us", 100_000),
        ("cpuset", "cpuset.cpus", 0),
    ):
        assert int((cgroup(program, name, controller) / file).read_text()) == value, file
    program.ok("update", "--pids-limit=-1", name)
    assert (cgroup(program, name, "pids") / "pids.max").read_text() == "max\n"
    assert (cgroup(program, name, "cpu") / "cpu.shares").read_text() == "512\n"


@pytest.mark.parametrize("source", ["file", "-"])
def test_limits_change_by_a_document(
    program: Program, bundle: OCIBundle, tmp_path: Path, source: str
) -> None:
    name = program.running(bundle)
    text = json.dumps({"pids": {"limit": 55}, "memory": {"limit": 1 << 26}})
    (tmp_path / "file").write_text(text)
    command: list[str | Path] = [program.script, "--root", program.root]
    command += ["update", "-r", tmp_path / "file" if source == "file" else "-", name]
    subprocess.run(command, input=text, text=True, check=True)
    assert (cgroup(program, name, "pids") / "pids.max").read_text() == "55\n"
    kept = json.loads((program.root / name / "config.json").read_text())
    assert kept["linux"]["resources"]["pids"] == {"limit": 55}


def test_limits_that_cannot_be_are_refused(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    assert "--memory" in program.refused("update", "--memory", "much", name)
    assert "RDT" in program.refused("update", "--l3-cache-schema", "L3:0=f", name)
    assert "cpuset" in program.refused("update", "--cpuset-cpus", "4000", name)
    program.ok("kill", name, "KILL")
    program.ended(name)
    assert "container not running" in program.refused("update", "--pids-limit", "5", name)


def shape(value: Any) -> Any:
    """Return the names in *value*, and what kinds of things they name."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    return type(value).__name__


def test_events_have_runcs_shape(program: Program, bundle: OCIBundle) -> None:
    bundle.linux["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 9}}
    name = program.running(bundle, "sh", "-c", "echo up; sleep 600")
    wait_for(lambda: bundle.output.read_text() == "up\n")
    ours = json.loads(program.ok("events", "--stats", name))
    runc = ["runc", "--root", str(program.folder / "runc")]
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "check": True}
    other = program.id()
    subprocess.run([*runc, "run", "-d", "-b", bundle.folder, other], **how)  # type: ignore[call-overload]
    try:
        done = subprocess.run(
            [*runc, "events", "--stats", other], capture_output=True, text=True, check=True
        )
    finally:
        subprocess.run([*runc, "delete", "-f", other], check=True)
    theirs = json.loads(done.stdout)
    assert (ours["type"], ours["id"]) == ("stats", name)
    for event in (ours, theirs):
        event["data"]["memory"].pop("cache", None)  # left out where it is 0
        for kind in ("usage", "swap", "kernel"):
            event["data"]["memory"][kind].setdefault("max", 0)
    assert shape(ours) == shape(theirs)
    assert ours["data"]["memory"]["usage"]["limit"] == 64 << 20
    assert ours["data"]["pids"]["limit"] == 9


def test_events_come_until_the_container_stops(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    command: list[str | Path] = [program.script, "--root", program.root]
    command += ["events", "--interval", "50ms", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        for _ in range(3):
            assert json.loads(following.stdout.readline())["type"] == "stats"
        program.ok("kill", name, "KILL")
        assert following.wait(30) == 0
    assert "is not running" in program.refused("events", name)
    assert "--interval" in program.refused("events", "--interval", "soon", name)


def test_a_kill_for_want_of_memory_is_an_event(program: Program, bundle: OCIBundle) -> None:
    bundle.linux["resources"] = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}
    subprocess.run(["mkfifo", bundle.root / "tmp/go"], check=True)
    script = "read x </tmp/go; head -c 64000000 /dev/zero | tail; sleep 600"
    name = program.running(bundle, "sh", "-c", script)
    command: list[str | Path] = [program.script, "--root", program.root]
    command += ["events", "--interval", "10ms", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["type"] == "stats"  # it looks
        (bundle.root / "tmp/go").write_text("x\n")
        events = (json.loads(line) for line in following.stdout)
        assert next(e for e in events if e["type"] != "stats") == {"type": "oom", "id": name}
        following.kill()
