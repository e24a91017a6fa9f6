"""`kill -9` of the program at any point: delete --force leaves nothing, and no process is lost."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.oci_runtime.program import OCIBundle, Program, wait_for

NAME = "sleep-for-a-test"  # in the command line of the container's program


def popen(program: Program, *words: str | Path) -> subprocess.Popen[bytes]:
    command: list[str | Path] = [program.script, "--root", program.root, *words]
    null = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=null, stdout=null, stderr=null)


def processes(program: Program) -> list[int]:
    """Return all whose command line names the root, or that are the container's program."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        mine = str(program.root).encode() in words or NAME.encode() in words
        if mine and state not in "ZX" and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def record(program: Program, name: str) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads((program.root / name / "state.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def reached(what: str) -> Callable[[Program, str], bool]:
    return lambda program, name: (program.root / name / what).exists()


POINTS: dict[str, Callable[[Program, str], bool]] = {
    "folder": reached(""),
    "lock": reached("lock"),
    "config": reached("config.json"),
    "record": reached("state.json"),
    "gate": reached("gate"),
    "pid": lambda program, name: bool(record(program, name).get("init_process_pid")),
    "pid file": lambda program, name: (program.folder / "pid").exists(),
}


@pytest.mark.parametrize("command", ["create", "run"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_while_it_makes_a_container(
    program: Program, bundle: OCIBundle, command: str, point: str
) -> None:
    if (command, point) == ("run", "gate"):
        point = "pid"  # run has none
    bundle.process["args"] = ["sh", "-c", f"sleep 600; : {NAME}"]
    name = program.id()
    words: list[str | Path] = [
        command,
        "--pid-file",
        program.folder / "pid",
        "--bundle",
        bundle.write(),
        name,
    ]
    running = popen(program, *words)
    while not POINTS[point](program, name) and running.poll() is None:
        continue
    running.kill()
    running.wait()
    settle(program, name)


@pytest.mark.slow
def test_killed_at_any_time(program: Program, bundle: OCIBundle) -> None:
    bundle.process["args"] = ["sh", "-c", f"sleep 600; : {NAME}"]
    folder = bundle.write()
    for step in range(24):
        name = program.id()
        running = popen(program, "create", "--bundle", folder, name)
        time.sleep(0.004 * step)
        running.kill()
        running.wait()
        settle(program, name)


def settle(program: Program, name: str) -> None:
    """Either nobody runs, or the record knows who; in the end nothing is there."""
    pid = record(program, name).get("init_process_pid")
    wait_for(lambda: set(processes(program)) <= {pid})
    program.ok("delete", "--force", name)
    wait_for(lambda: processes(program) == [])
    assert not (program.root / name).exists()


def test_killed_while_it_starts(program: Program, bundle: OCIBundle) -> None:
    name = program.create(bundle)
    running = popen(program, "start", name)
    running.kill()
    running.wait()
    assert program.state(name)["status"] in ("created", "running")
    program.ok("delete", "--force", name)


def test_killed_while_it_deletes(program: Program, bundle: OCIBundle) -> None:
    for step in range(8):
        name = program.running(bundle)
        running = popen(program, "delete", "--force", name)
        time.sleep(0.005 * step)
        running.kill()
        running.wait()
        program.ok("delete", "--force", name)
        assert not (program.root / name).exists()


def test_killed_in_the_foreground_the_container_goes_on(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.process["args"] = ["sleep", "600"]
    name = program.id()
    running = popen(program, "run", "--bundle", bundle.write(), name)
    wait_for(lambda: (program.root / name / "state.json").exists())
    wait_for(lambda: program.state(name)["status"] == "running")
    running.kill()
    running.wait()
    assert program.state(name)["status"] == "running"
    program.ok("delete", "--force", name)


def test_a_command_of_a_killed_exec_ends_or_runs_whole(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    for step in range(8):
        running = popen(program, "exec", name, "sleep", "600")
        time.sleep(0.006 * step)
        running.kill()
        running.wait()
    wait_for(lambda: all(comm(pid) == "sleep" for pid in pids(program, name)))


def pids(program: Program, name: str) -> list[int]:
    found: list[int] = json.loads(program.ok("ps", "--format", "json", name))
    return found


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_two_that_delete_at_once_do_not_hinder_each_other(
    program: Program, bundle: OCIBundle
) -> None:
    for _ in range(4):
        name = program.running(bundle)
        both = [popen(program, "delete", "--force", name) for _ in range(2)]
        assert [one.wait(30) for one in both] == [0, 0]
        assert not (program.root / name).exists()


def test_of_two_that_create_at_once_one_succeeds(program: Program, bundle: OCIBundle) -> None:
    bundle.process["args"] = ["sleep", "600"]
    folder = bundle.write()
    for _ in range(4):
        name = program.id()
        both = [popen(program, "create", "--bundle", folder, name) for _ in range(2)]
        assert sorted(one.wait(30) for one in both) == [0, 1]
        assert program.state(name)["status"] == "created"
        program.ok("delete", "--force", name)


def test_an_interrupt_is_as_good_as_a_kill(program: Program, bundle: OCIBundle) -> None:
    bundle.process["args"] = ["sleep", "600"]
    name = program.id()
    running = popen(program, "create", "--bundle", bundle.write(), name)
    wait_for(lambda: (program.root / name).exists() or running.poll() is not None)
    running.send_signal(signal.SIGINT)
    running.wait(30)
    program.ok("delete", "--force", name)
    assert not (program.root / name).exists()


def test_a_creator_that_waits_for_a_hook_is_ended_by_force(
    program: Program, bundle: OCIBundle
) -> None:
    hook = {"path": "/bin/sleep", "args": ["sleep", "611"]}
    bundle.config["hooks"] = {"createRuntime": [hook]}
    bundle.process["args"] = ["sh", "-c", f"sleep 600; : {NAME}"]
    name = program.id()
    running = popen(program, "create", "--bundle", bundle.write(), name)
    wait_for(lambda: bool(children(running.pid)))
    assert program.state(name)["status"] == "creating"
    hooks = children(running.pid)
    program.ok("delete", "--force", name)
    assert running.wait(30) == -signal.SIGKILL
    for pid in hooks:
        if comm(pid) == "sleep":
            os.kill(pid, signal.SIGKILL)  # the bundle's own program: nobody is to end it but it
    wait_for(lambda: processes(program) == [])
    assert not (program.root / name).exists()


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_start_that_was_killed_does_not_make_a_running_container_created(
    program: Program, bundle: OCIBundle
) -> None:
    name = program.running(bundle)
    os.mkfifo(program.root / name / "gate")  # as if it had not come to remove it
    assert program.state(name)["status"] == "running"
    assert "already running" in program.refused("start", name)
