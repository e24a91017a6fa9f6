"""A shim or an engine is killed: who asks next is kept waiting, and is told of no failure."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import orlop
from orlop.kernel.procstat import has_ended, read_stat
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.direct.ways import Given, Once, direct, run
from tests.integration.sandbox.faces import ids, wait_until

Options = Callable[..., Given]
#: Kills the engine again and again, and asks for the next thing at once.
_KILLER = """
import os, sys, orlop
folder, log = sys.argv[1:]
def engine():
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().split(bytes(1))
        except OSError:
            continue
        if b"orlop.programs.engine" in words and os.fsencode(folder) in words:
            return int(name)
runner = orlop.Runner(mounts=[f"{log}:/log"])
runner.run(["true"])
for turn in range(8):
    for box in [orlop.Sandbox().start() for _ in range(2)]:
        box.close()
    os.kill(engine(), 9)
    if turn % 4 < 2:
        runner.run(["sh", "-c", f"echo {turn} >>/log"])
    else:
        with orlop.Sandbox(name=["usual", None][turn % 2], mounts=[f"{log}:/log"]) as box:
            box.run(["sh", "-c", f"echo {turn} >>/log"])
"""


def _shim(engine: EngineProcess) -> int:
    with engine.shim() as shim:
        return int(shim.call({"op": "hello"})["ok"]["pid"])


def _kill(pid: int) -> None:
    """Return once it has ended, so that nothing asked for from now on reaches it."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _ended(pid), "it does not die")


def _ended(pid: int) -> bool:
    try:
        return has_ended(read_stat(pid))
    except OSError:
        return True


def test_starts_wait_for_the_next_shim(engine: EngineProcess, given: Options) -> None:
    options, failures = given(), list[BaseException]()

    def start() -> None:
        try:
            assert run(Once(options), "echo", "here").stdout == b"here\n"
            with direct(options) as box:
                assert run(box, "true").exit_code == 0
        except BaseException as error:
            failures.append(error)

    for turn in range(3):
        _kill(_shim(engine))
        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            with orlop.Sandbox(name=f"usual-{turn}", engine=engine.url) as box:
                assert box.run(["true"]).exit_code == 0
        finally:
            for thread in threads:
                thread.join()
        assert failures == []
    wait_until(lambda: not ids(engine), "something is left")


def test_a_sandbox_that_was_being_started_is_started_by_the_next_shim(
    engine: EngineProcess, given: Options
) -> None:
    done, failures, began = threading.Event(), list[BaseException](), Counter[int]()

    def start(number: int) -> None:
        while not done.is_set():
            try:
                with direct(given(pids=60 + number)):
                    began[number] += 1
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=start, args=(number % 2,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            began.clear()
            wait_until(lambda: bool(failures) or min(began[0], began[1]) > 8, "nothing starts")
            assert failures == []
            _kill(_shim(engine))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    wait_until(lambda: not ids(engine), "something is left")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[EngineProcess]:
    """Folders of an engine that its clients start."""
    engine = EngineProcess(tmp_path)
    yield engine
    _python(engine, "-m", "orlop", "engine", "--stop")
    engine.close()


def _python(engine: EngineProcess, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    environment = engine.environment()
    del environment["DOCKER_HOST"]  # who is told of an engine starts none
    return subprocess.run(
        [sys.executable, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_what_no_engine_has_read_is_asked_of_the_next(alone: EngineProcess, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    done = _python(alone, "-c", _KILLER, alone.run, log)
    assert done.returncode == 0, done.stderr
    assert log.read_text().split() == [str(turn) for turn in range(8)]
