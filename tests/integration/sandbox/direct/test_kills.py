"""Whoever is killed, whenever: nothing is left of what was his, and others go on."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from orlop.errors import OrlopError
from orlop.kernel.procstat import has_ended, read_stat
from orlop.sandbox.way import Command
from orlop.shim.client import Client
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.direct.ways import Given, Once, direct, run
from tests.integration.sandbox.faces import ids, wait_until

Options = Callable[..., Given]
#: Starts sandboxes, with commands that leave others behind, for ever; tells of each turn.
_BUSY = """
import itertools, sys, threading, orlop
options = dict(image="small:test", memory="128m", pids=64, engine=sys.argv[1])
def turns():
    for turn in itertools.count():
        with orlop.Sandbox(**options) as box:
            box.run(["sh", "-c", "sleep 1000 & (busybox setsid sleep 1000 &) ; true"])
            held = box.exec(["sleep", "1000"], input=None)
            orlop.Runner(**options).run(["true"])
            print(turn, flush=True)
for _ in range(3):
    threading.Thread(target=turns).start()
"""
_KINDS = ("pipe:", "socket:", "anon_inode:[pidfd]")


@pytest.fixture
def client(engine: EngineProcess) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """What starts a program that does nothing but start sandboxes; it is killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        words = [sys.executable, "-c", _BUSY, engine.url]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
        )
        started.append(process)
        return process

    yield start
    for process in started:
        _kill(process)


def _await_turns(client: "subprocess.Popen[str]", count: int) -> None:
    assert client.stdout is not None
    for _ in range(count):
        assert client.stdout.readline()


def _kill(client: "subprocess.Popen[str]") -> None:
    client.kill()
    client.wait()
    if client.stdout is not None:
        client.stdout.close()


def _shim(engine: EngineProcess) -> int:
    asked = Client(str(engine.run / "shim.sock"))
    try:
        return int(asked.call({"op": "hello"})["ok"]["pid"])
    finally:
        asked.close()


def _launchers(shim: int) -> list[int]:
    """Find them among its children: what they make looks alike, but is in a container."""
    children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
    ours = os.readlink(f"/proc/{shim}/ns/pid")
    found = []
    for pid in children:
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text()
            if name == "orlop-launcher\n" and os.readlink(f"/proc/{pid}/ns/pid") == ours:
                found.append(int(pid))
    return found


def _groups(shim: int) -> list[Path]:
    return [*Path("/sys/fs/cgroup").glob(f"*/orlop/.pool-{shim}-*")]


def _inhabited(shim: int) -> list[str]:
    """Return who is in a cgroup of the shim's, and which groups of commands there are."""
    found = []
    for group in _groups(shim):
        with contextlib.suppress(FileNotFoundError):
            found += (group / "cgroup.procs").read_text().split()
            found += [str(below) for below in group.iterdir() if below.is_dir()]
    return found


def _descriptors(pid: int) -> Counter[str]:
    """Count those that belong to somebody, and to no pool."""
    found: Counter[str] = Counter()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            found.update(kind for kind in _KINDS if target.startswith(kind))
    return found


def _memory_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def _ended(pid: int) -> bool:
    try:
        return has_ended(read_stat(pid))
    except OSError:
        return True


def test_of_a_killed_client_nothing_is_left(
    engine: EngineProcess, client: Callable[[], "subprocess.Popen[str]"]
) -> None:
    assert engine.process is not None
    both = (engine.process.pid, _shim(engine))
    _await_turns(first := client(), 30)
    _kill(first)

    def nothing_is_left() -> bool:
        return not ids(engine) and not _inhabited(both[1])

    wait_until(nothing_is_left, "something of the first client is left")
    before, memory = [_descriptors(pid) for pid in both], [_memory_kb(pid) for pid in both]
    for turns in (0, 1, 2, 3, 5, 8, 13, 2, 1, 0):
        _await_turns(next_ := client(), turns)
        _kill(next_)
        wait_until(nothing_is_left, f"something is left after {turns} turns")
    wait_until(
        lambda: all(_descriptors(pid) <= had for pid, had in zip(both, before, strict=True)),
        "descriptors are left",
    )
    assert all(_memory_kb(pid) < kb + 20_000 for pid, kb in zip(both, memory, strict=True))


def test_of_a_killed_launcher_one_start_is_lost(given: Options, engine: EngineProcess) -> None:
    options, shim, done = given(), _shim(engine), threading.Event()
    failures: list[Exception] = []
    ran = Counter[str]()

    def go_on() -> None:
        while not done.is_set():
            try:
                answer = run(Once(options), "echo", "here").stdout
            except OrlopError as error:
                if "launcher was killed" not in str(error):
                    failures.append(error)
            else:
                ran[answer.decode()] += 1

    with direct(options) as box:
        threads = [threading.Thread(target=go_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(25):
                before = ran["here\n"]
                wait_until(lambda: bool(_launchers(shim)), "no launcher")
                for pid in _launchers(shim):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                wait_until(partial(_is_above, ran, before + 2, failures), "nothing goes on")
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert ran.keys() == {"here\n"}
        assert run(box, "echo", "alive").stdout == b"alive\n"
    wait_until(lambda: not ids(engine) and not _inhabited(shim), "something is left")


def _is_above(ran: Counter[str], count: int, failures: list[Exception]) -> bool:
    assert failures == []
    return ran["here\n"] > count


def test_a_command_that_is_killed_and_dies_late_does_not_keep_its_sandbox(
    engine: EngineProcess, given: Options
) -> None:
    shim = _shim(engine)
    with direct(given(pids=59)) as box:
        assert run(box, "true").exit_code == 0
        state = _freezer(engine.out("inspect", "-f", "{{.State.Pid}}", box.id))
        procs, failures = state.parent / "cgroup.procs", list[OrlopError]()

        def ask() -> None:
            try:
                run(box, "true")
            except OrlopError as error:
                failures.append(error)

        asking = threading.Thread(target=ask, daemon=True)
        state.write_text("FROZEN")
        try:
            asking.start()
            wait_until(lambda: len(procs.read_text().split()) > 1, "no command is on its way")
            for pid in _launchers(shim):
                os.kill(pid, signal.SIGKILL)
            asking.join(60)
        finally:
            state.write_text("THAWED")
        assert "launcher was killed" in str(failures)
        closing = threading.Thread(target=box.close, daemon=True)
        closing.start()
        closing.join(60)
        assert not closing.is_alive(), "the sandbox has no end"
    wait_until(lambda: not _inhabited(shim), "something is left")


def _freezer(pid: str) -> Path:
    """Return the file that freezes a process's cgroup; in that of v1 nobody can be killed."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":")
        if controllers == "freezer":
            return Path(f"/sys/fs/cgroup/freezer{path}/freezer.state")
    pytest.skip("no v1 freezer")


@pytest.mark.parametrize("turns", [0, 1, 4])
def test_of_a_killed_shim_nothing_is_left(
    engine: EngineProcess,
    given: Options,
    client: Callable[[], "subprocess.Popen[str]"],
    turns: int,
) -> None:
    shim = _shim(engine)
    with direct(given()) as box:
        box.exec(Command(words=["sleep", "1000"])).close()
        _await_turns(client(), turns)
        theirs = [*map(int, filter(str.isdigit, _inhabited(shim))), *_launchers(shim)]
        os.kill(shim, signal.SIGKILL)
        wait_until(lambda: all(map(_ended, theirs)), "processes have outlived the shim")
        with contextlib.suppress(OrlopError):
            box.close()
    wait_until(lambda: _succeeds(given), "no sandbox starts any more")
    assert _shim(engine) != shim
    wait_until(lambda: not _groups(shim), "cgroups are left")


def _succeeds(given: Options) -> bool:
    with contextlib.suppress(OrlopError):
        return run(Once(given()), "true").exit_code == 0
    return False


@pytest.mark.parametrize("turns", [0, 3])
def test_of_a_killed_engine_nothing_is_left_that_is_nobodys(
    engine: EngineProcess,
    given: Options,
    client: Callable[[], "subprocess.Popen[str]"],
    turns: int,
) -> None:
    shim = _shim(engine)
    _await_turns(busy := client(), turns)
    engine.stop(signal.SIGKILL)
    _kill(busy)
    engine.start()
    assert _shim(engine) == shim
    wait_until(lambda: not ids(engine) and not _inhabited(shim), "something is left")
    assert run(Once(given()), "true").exit_code == 0
