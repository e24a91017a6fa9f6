"""kill -9 of the stdio process, of the shim, and of both: what stays and what is said."""

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import time

import pytest

from .harness import (
    FailedError,
    Shim,
    children,
    eventually,
    kill_and_wait,
    payloads,
    read_all,
    state_of,
)

COUNT = 'i=0; while [ $i -lt 200 ]; do echo "line $i"; i=$((i+1)); sleep 0.01; done'

_MOST_TRIES = 40
_RUN_S = 1.0  # in which a process that may run has come to its end


def lines_of(shim: Shim, name: str) -> list[str]:
    return shim.output(name).splitlines()


def test_log_goes_on_after_the_stdio_process_is_killed(shim: Shim) -> None:
    shim.start("writer", "sh", "-c", COUNT)
    for _ in range(3):
        time.sleep(0.2)
        kill_and_wait(shim.stdio_pid)
        eventually(lambda: _answers(shim))
    assert shim.wait_exit("writer")["status"] == 0
    numbers = [int(line.removeprefix("line ")) for line in lines_of(shim, "writer")]
    assert numbers == sorted(set(numbers))
    # What it has read and not yet written when it is killed is lost: at most a block each time.
    assert numbers[-1] == 199
    assert _holes(numbers) <= 3


def _holes(numbers: list[int]) -> int:
    return sum(later - earlier > 1 for earlier, later in itertools.pairwise([-1, *numbers]))


def _answers(shim: Shim) -> bool:
    try:
        return shim.stdio_pid > 0
    except Exception:
        return False


def test_unfinished_line_survives_the_death_of_both(shim: Shim) -> None:
    wait = "while ! [ -e /tmp/go ]; do sleep 0.02; done"
    script = f'echo -n "begin, "; echo -n "middle, "; {wait}; echo end'
    shim.start("slow", "sh", "-c", script)
    unfinished = shim.log_path("slow").with_name("slow.log.unfinished")
    eventually(lambda: unfinished.exists() and b"middle" in unfinished.read_bytes())
    stdio = shim.stdio_pid
    shim.kill_shim()
    kill_and_wait(stdio)
    shim.again()
    (shim.root / "tmp/go").touch()
    shim.wait_exit("slow")
    assert lines_of(shim, "slow") == ["begin, middle, end"]
    assert not unfinished.exists()


def test_entry_torn_by_a_kill_is_cut_off(shim: Shim) -> None:
    shim.log_path("torn").write_text('{"log":"whole\\n","stream":"stdout","time":"x"}\n{"log":"to')
    shim.run_to_end("torn", "echo", "next")
    assert lines_of(shim, "torn") == ["whole", "next"]


def test_stdio_process_killed_as_the_container_ends_loses_no_exit(shim: Shim) -> None:
    for number in range(10):
        name = f"c{number}"
        pid = shim.stdio_pid
        shim.client.post(shim.start_message(name, "sh", "-c", "echo done; exit 4"))
        time.sleep(0.001 * number)
        kill_and_wait(pid)
        assert shim.wait_exit(name)["status"] == 4
        shim.request(op="forget", id=name)
    assert shim.cgroups() == []


def test_killed_shim_is_replaced_by_one_that_adopts_the_containers(shim: Shim) -> None:
    shim.start("writer", "sh", "-c", COUNT + "; exit 9")
    stdio = shim.stdio_pid
    pid = next(item["pid"] for item in shim.request(op="list"))
    time.sleep(0.1)
    shim.kill_shim()
    assert state_of(pid) not in ("", "Z")
    shim.again()
    assert [item["pid"] for item in shim.request(op="list")] == [pid]
    assert shim.stdio_pid == stdio
    assert shim.wait_exit("writer")["status"] == 9
    assert lines_of(shim, "writer") == [f"line {i}" for i in range(200)]
    assert shim.cgroups() == []
    assert list((shim.run / "running").iterdir()) == []


def test_container_that_ends_while_no_shim_runs_keeps_its_exit_code(shim: Shim) -> None:
    shim.start("short", "sh", "-c", "sleep 0.3; echo bye; exit 6")
    pid = next(item["pid"] for item in shim.request(op="list"))
    shim.kill_shim()
    eventually(lambda: state_of(pid) == "")  # reaped, by a pid 1 that tells nobody
    shim.again()
    eventually(lambda: (shim.run / "exits" / "short").exists())
    assert json.loads((shim.run / "exits" / "short").read_text())["status"] == 6
    eventually(lambda: [item["status"] for item in shim.request(op="list")] == [6])
    assert lines_of(shim, "short") == ["bye"]
    eventually(lambda: shim.cgroups() == [])


def test_exit_that_nobody_can_tell_is_255(shim: Shim) -> None:
    shim.start("lost", "sleep", "100")
    item = next(iter(shim.request(op="list")))
    stdio = shim.stdio_pid
    shim.kill_shim()
    kill_and_wait(stdio)
    kill_and_wait(item["pid"])
    eventually(lambda: state_of(item["pid"]) == "")
    shim.again()
    eventually(lambda: [item["status"] for item in shim.request(op="list")] == [255])
    assert shim.cgroups() == []


def test_shim_and_stdio_killed_together_reopen_the_pipes(shim: Shim) -> None:
    script = "trap '' PIPE; while sleep 0.05; do echo tick 2>&-; done"
    shim.start("ticker", "sh", "-c", script, stdin=True)
    eventually(lambda: len(lines_of(shim, "ticker")) > 2)
    stdio = shim.stdio_pid
    shim.kill_shim()
    kill_and_wait(stdio)
    shim.again()
    before = len(lines_of(shim, "ticker"))
    eventually(lambda: len(lines_of(shim, "ticker")) > before + 2)
    shim.request(op="signal", id="ticker", signal=int(signal.SIGKILL))
    assert shim.wait_exit("ticker")["status"] == 137


def test_input_and_attach_work_after_the_stdio_process_is_replaced(shim: Shim) -> None:
    shim.start("cat", "cat", stdin=True, stdin_once=True)
    kill_and_wait(shim.stdio_pid)
    eventually(lambda: _answers(shim))
    with shim.attach("cat") as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert payloads(read_all(client))[1] == b"hello"
    assert shim.wait_exit("cat")["status"] == 0


def test_terminal_survives_the_death_of_either(shim: Shim) -> None:
    shim.start("tty", "cat", terminal=True, stdin=True)
    kill_and_wait(shim.stdio_pid)
    eventually(lambda: _answers(shim))
    shim.kill_shim()
    shim.again()
    with shim.attach("tty") as client:
        client.sendall(b"still\n")
        eventually(lambda: "still" in shim.output("tty"))
    shim.request(op="resize", id="tty", height=10, width=20)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("delay_ms", [0, 1, 2, 3, 5, 8])
def test_shim_killed_during_a_start_leaves_a_known_container_or_nothing(
    shim: Shim, delay_ms: int, both: bool
) -> None:
    pid, stdio = shim.pid, shim.stdio_pid
    shim.client.post(shim.start_message("race", "sleep", "100"))
    time.sleep(delay_ms / 1000)
    os.kill(pid, signal.SIGKILL)
    if both:
        os.kill(stdio, signal.SIGKILL)
    kill_and_wait(pid)
    shim.again()
    running = [item for item in shim.request(op="list") if item.get("running")]
    if running:
        assert state_of(running[0]["pid"]) not in ("", "Z")
        shim.request(op="signal", id="race", signal=9)
        assert shim.wait_exit("race")["status"] == 137
    eventually(lambda: shim.cgroups() == [])
    assert list((shim.run / "running").iterdir()) == []


@pytest.mark.parametrize("terminal", [False, True])
def test_program_that_ran_before_its_shim_knew_has_its_status(shim: Shim, terminal: bool) -> None:
    """Its shim stops while it is made, and is killed then."""
    ran = answered = False
    for number in range(_MOST_TRIES):
        name = f"early{number}"
        answered = _kill_a_shim_that_starts(
            shim, name, after_s=number % 10 * 0.0003, terminal=terminal
        )
        shim.again()
        ran = (shim.root / f"tmp/{name}").exists()
        eventually(lambda known={name: 7} if ran else {}: _statuses(shim) == known)  # type: ignore[misc]
        eventually(lambda name=name, lines=["out"] * ran: lines_of(shim, name) == lines)  # type: ignore[misc]
        if ran and not answered:
            break
        with contextlib.suppress(FailedError):
            shim.request(op="forget", id=name)
    assert ran, "a program"
    assert not answered, "a shim that did not know of it"
    eventually(lambda: shim.cgroups() == [])
    assert list((shim.run / "running").iterdir()) == []


def _kill_a_shim_that_starts(shim: Shim, name: str, *, after_s: float, terminal: bool) -> bool:
    """Stop it so long after the process is there, kill it later; return whether it has answered."""
    pid, record = shim.pid, shim.run / "running" / name
    script = f"echo out; echo > /tmp/{name}; exit 7"
    shim.client.post(shim.start_message(name, "sh", "-c", script, terminal=terminal))
    made = 0
    while not made and not _has_word_for(shim):
        with contextlib.suppress(FileNotFoundError, ValueError):
            made = json.loads(record.read_text())["pid"]
    time.sleep(after_s)
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + _RUN_S
    while made and state_of(made) not in ("", "Z") and time.monotonic() < deadline:
        time.sleep(0.01)
    answered = _has_word_for(shim)
    kill_and_wait(pid)
    eventually(lambda: not made or state_of(made) in ("", "Z"))
    return answered


def _has_word_for(shim: Shim) -> bool:
    return bool(select.select([shim.client], [], [], 0)[0])


def test_shim_killed_as_containers_end_loses_no_exit(shim: Shim) -> None:
    for number in range(6):
        names = [f"r{number}-{i}" for i in range(4)]
        for name in names:
            shim.client.post(shim.start_message(name, "sh", "-c", "sleep 0.05; exit 3"))
        started = 0
        while started < len(names):
            started += "ok" in shim.client.wait_event()
        pid = shim.pid
        time.sleep(0.03 + 0.008 * number)
        kill_and_wait(pid)
        shim.again()
        eventually(lambda names=names: _statuses(shim) == dict.fromkeys(names, 3))  # type: ignore[misc]
        for name in names:
            shim.request(op="forget", id=name)
    assert shim.cgroups() == []
    with contextlib.suppress(FileNotFoundError):
        assert os.listdir(shim.run / "exits") == []


def _statuses(shim: Shim) -> dict[str, int]:
    return {item["id"]: item.get("status", -1) for item in shim.request(op="list")}


def test_exit_is_told_even_if_it_cannot_be_written_down(shim: Shim) -> None:
    (shim.run / "exits").rmdir()
    shim.start("unwritten", "sh", "-c", "exit 8")
    assert shim.wait_exit("unwritten")["status"] == 8
    (shim.run / "exits").mkdir()
    assert shim.cgroups() == []


def test_start_that_cannot_be_noted_is_refused_and_leaves_nothing(shim: Shim) -> None:
    (shim.run / "running").rmdir()
    with pytest.raises(FailedError):
        shim.start("unnoted", "sleep", "100")
    (shim.run / "running").mkdir()
    assert shim.cgroups() == []
    assert shim.run_to_end("unnoted", "true")["status"] == 0


def test_stdio_process_that_hangs_is_killed_and_replaced(shim: Shim) -> None:
    shim.start("writer", "sh", "-c", "echo one; read x; echo two", terminal=True, stdin=True)
    eventually(lambda: lines_of(shim, "writer") == ["one"])
    hanging = shim.stdio_pid
    os.kill(hanging, signal.SIGSTOP)
    for _ in range(16_000):  # more than are queued for anybody
        shim.request(op="close_stdin", id="writer")
    eventually(lambda: state_of(hanging) in ("", "Z"))
    with shim.attach("writer") as client:
        client.sendall(b"go\n")
        assert b"two" in read_all(client)
    eventually(lambda: hanging not in children(shim.pid))
