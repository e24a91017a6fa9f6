"""A command that the kernel killed for want of memory is told from one that was killed."""

from typing import Any

import pytest

import orlop
from tests.integration.engines import EngineProcess

WAYS = pytest.mark.parametrize(
    "options", [{}, {"command": ["sleep", "600"]}], ids=["quick", "usual"]
)
HOG = ["python3", "-c", "x = bytearray(300 << 20)"]
#: Ends as a shell does whose command was killed.
SHELL = ["sh", "-c", f"{HOG[0]} {HOG[1]} '{HOG[2]}'; exit $?"]
KILLED = ["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]


@WAYS
def test_command_beyond_its_sandboxs_memory(engine: EngineProcess, options: dict[str, Any]) -> None:
    with orlop.Sandbox(engine=engine.url, memory="64m", **options) as box:
        assert told(box.run(KILLED)) == (137, False)
        assert told(box.run(HOG)) == (137, True)
        assert told(box.run(SHELL)) == (137, True)
        assert told(box.run(KILLED)) == (137, False)
        assert told(box.run(["true"])) == (0, False)
        with box.exec(HOG) as process:
            for _ in process:
                pass
            assert process.oom_killed


def test_run_of_a_runner_beyond_its_memory(engine: EngineProcess) -> None:
    runner = orlop.Runner(engine=engine.url, memory="64m")
    for _ in range(3):  # in cgroups that others have used
        assert told(runner.run(HOG)) == (137, True)
        assert told(runner.run(SHELL)) == (137, True)
        assert told(runner.run(KILLED)) == (137, False)


def told(result: orlop.Result) -> tuple[int, bool]:
    assert not result.timed_out
    return result.exit_code, result.oom_killed
