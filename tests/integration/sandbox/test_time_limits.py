"""A command's time limit, which holds though nobody reads its output."""

import asyncio
import subprocess
from typing import Any

import pytest

import orlop
from orlop.errors import NotFoundError
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import ids, wait_until

#: Of the quick way, and of the usual one.
WAYS = pytest.mark.parametrize(
    "options", [{}, {"command": ["sleep", "600"]}], ids=["quick", "usual"]
)


def shown(words: str) -> bool:
    return words in subprocess.check_output(["ps", "-eo", "args"], text=True)


@WAYS
def test_command_that_nobody_reads_ends_at_its_limit(
    engine: EngineProcess, options: dict[str, Any]
) -> None:
    script = "echo begun; setsid sleep 7401 & sleep 7402; true"
    with orlop.Sandbox(engine=engine.url, **options) as box:
        with box.exec(["sh", "-c", script], timeout=5) as process:
            wait_until(lambda: shown("sleep 7401"), "it does not run")
            wait_until(lambda: not shown("sleep 740"), "it runs on")
            result = process.result()
        assert (result.timed_out, result.exit_code, result.stdout) == (True, 137, b"begun\n")
        assert process.timed_out
        with box.terminal(["sleep", "7403"], timeout=5) as terminal:
            wait_until(lambda: shown("sleep 7403"), "it does not run")
            wait_until(lambda: not shown("sleep 7403"), "it runs on")
            assert b"".join(terminal) == b""
            assert (terminal.exit_code, terminal.timed_out) == (137, True)


@WAYS
def test_command_that_ends_in_time_or_is_killed_has_not_timed_out(
    engine: EngineProcess, options: dict[str, Any]
) -> None:
    with orlop.Sandbox(engine=engine.url, **options) as box:
        done = box.run(["sh", "-c", "kill -9 $$"], timeout=600)
        assert (done.exit_code, done.timed_out) == (137, False)
        with box.exec(["sleep", "7404"], timeout=600) as process:
            process.kill()
            assert (process.result().exit_code, process.timed_out) == (137, False)


def test_runners_sandbox_that_nobody_reads_ends_at_its_limit(engine: EngineProcess) -> None:
    runner = orlop.Runner(engine=engine.url)
    with runner.exec(["sh", "-c", "sleep 7405; true"], timeout=0.5) as process:
        wait_until(lambda: ids(engine) == set(), "it runs on")
        result = process.result()
    assert (result.timed_out, result.exit_code) == (True, 137)


def test_limit_of_an_async_command_holds_while_nobody_waits(engine: EngineProcess) -> None:
    async def converse() -> orlop.Result:
        box = await orlop.AsyncSandbox(engine=engine.url).start()
        async with box, await box.exec(["sleep", "7406"], timeout=0.5) as process:
            wait_until(lambda: not shown("sleep 7406"), "it runs on")
            return await process.result()

    assert asyncio.run(converse()).timed_out


@WAYS
def test_what_ends_with_its_sandboxs_lifetime_has_timed_out(
    engine: EngineProcess, options: dict[str, Any]
) -> None:
    with orlop.Sandbox(engine=engine.url, lifetime=5, **options) as box:
        result = box.run(["sleep", "7407"])
        assert (result.exit_code, result.timed_out) == (137, True)
        wait_until(lambda: ids(engine) == set(), "it is left")
        with pytest.raises(NotFoundError, match="it has ended"):
            box.run(["true"])


def test_run_whose_sandboxs_lifetime_ends_has_timed_out(engine: EngineProcess) -> None:
    result = orlop.Runner(engine=engine.url, lifetime=0.5).run(["sleep", "7408"])
    assert (result.exit_code, result.timed_out) == (137, True)
