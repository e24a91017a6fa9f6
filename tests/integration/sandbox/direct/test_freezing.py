"""Sandboxes of the quick way that stand still: what waits for them, and what does not."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import orlop
from orlop.errors import OrlopError, WrongStateError
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import ids, wait_until


def shell(box: orlop.Sandbox, script: str) -> str:
    result = box.run(["sh", "-ec", script])
    assert result.exit_code == 0, result.stderr
    return result.stdout.decode()


@pytest.fixture
def box(engine: EngineProcess) -> Iterator[orlop.Sandbox]:
    with orlop.Sandbox(engine=engine.url, memory="100m") as box:
        yield box


def test_sandbox_that_is_ended_while_paused_leaves_nothing_frozen(engine: EngineProcess) -> None:
    for _ in range(3):  # its cgroup is the next one's
        with orlop.Sandbox(engine=engine.url, memory="100m") as box:
            assert shell(box, "echo on") == "on\n"
            box.pause()


def test_pause_is_no_others(engine: EngineProcess, box: orlop.Sandbox) -> None:
    over = threading.Event()

    def ask() -> int:
        ran = 0
        while not over.is_set():
            with contextlib.suppress(WrongStateError):
                ran += shell(box, "echo on") == "on\n"
        return ran

    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(ask) for _ in range(8)]
        try:
            for _ in range(10):
                box.pause()
                with orlop.Sandbox(engine=engine.url) as other:
                    assert shell(other, "echo on") == "on\n"
                box.resume()
        finally:
            over.set()
        assert sum(one.result() for one in asking)


def test_engine_that_is_killed_during_a_fork_leaves_nothing(
    engine: EngineProcess, box: orlop.Sandbox
) -> None:
    shell(box, "cd /srv; for i in $(seq 3000); do echo >$i; done")
    state = _freezer(box, engine)

    def fork() -> None:
        with contextlib.suppress(OrlopError):
            box.fork(2)

    forking = threading.Thread(target=fork)
    forking.start()
    while forking.is_alive() and "1" not in state.read_text() and "FROZ" not in state.read_text():
        pass
    engine.stop(signal.SIGKILL)
    forking.join(60)
    assert not forking.is_alive()
    engine.start()
    assert shell(box, "ls /srv | wc -l") == "3000\n"
    wait_until(lambda: ids(engine) == {box.id}, "forks are left")


def _freezer(box: orlop.Sandbox, engine: EngineProcess) -> Path:
    """Return the file that says whether the sandbox is frozen."""
    pid = engine.out("inspect", "-f", "{{.State.Pid}}", box.id)
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":")
        for folder in ("unified", ""):
            file = Path(f"/sys/fs/cgroup/{folder}{path}/cgroup.freeze")
            if not controllers and file.exists():
                return file
    raise AssertionError("no freezer")
