"""When a template ends, and what is left of it: nothing."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import orlop
from orlop.client.address import settings
from orlop.client.client import Client
from orlop.errors import OrlopError, UnavailableError
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import ids, wait_until
from tests.integration.sandbox.templates.machine import cgroups, command, members, tokens

OWNER = """
import sys, threading, orlop
template = orlop.Template(engine=sys.argv[1]).start()
threading.Thread(target=template.run, args=["import time; time.sleep(600)"]).start()
template.run("pass")
print("begun", flush=True)
"""


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine that a test may kill."""
    process = EngineProcess(tmp_path / "e")
    try:
        process.start()
        yield process
    finally:
        process.close()


class Waiting:
    """A run that does not end by itself, in a thread."""

    def __init__(self, engine: EngineProcess, template: orlop.Template) -> None:
        self.outcome: list[orlop.Result | OrlopError] = []
        self._engine = engine
        self._template = template
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_until(self._has_begun, "the run has not begun")

    def _has_begun(self) -> bool:
        return any(b"600.125" in command(pid) for pid in members(tokens(self._engine)))

    def _run(self) -> None:
        code = "import os; os.execvp('sleep', ['sleep', '600.125'])"
        try:
            self.outcome.append(self._template.run(code))
        except OrlopError as error:
            self.outcome.append(error)

    def result(self) -> orlop.Result | OrlopError:
        self._thread.join(60)
        return self.outcome[0]


def first_process(engine: EngineProcess, template: orlop.Template) -> int:
    with Client(settings(host=engine.url)) as client:
        return int(client.containers.inspect(template.id)["State"]["Pid"])


def await_nothing(engine: EngineProcess, seen: set[str]) -> None:
    """Wait until nothing of templates is left, neither of those *seen* nor of any other."""
    assert seen
    wait_until(lambda: ids(engine) == set(), "a template's container is left")
    wait_until(lambda: tokens(engine) == set(), "a template's folder is left")
    assert cgroups(seen) == []


def test_closing_ends_its_runs_and_leaves_nothing(engine: EngineProcess) -> None:
    with orlop.Template(engine=engine.url) as template:
        waiting = Waiting(engine, template)
        seen = tokens(engine)
        inside = members(seen)
        assert len(inside) >= 2
    assert isinstance(waiting.result(), UnavailableError)
    await_nothing(engine, seen)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside), "a run is left")


def test_template_whose_process_has_been_killed_is_started_again(engine: EngineProcess) -> None:
    setup = "BORN = __import__('os').urandom(8).hex()"
    with orlop.Template(engine=engine.url, setup=setup) as template:
        first = template.run("print(BORN)").stdout
        waiting = Waiting(engine, template)
        seen = tokens(engine)
        os.kill(first_process(engine, template), signal.SIGKILL)
        assert isinstance(waiting.result(), UnavailableError)
        second = template.run("print(BORN)")
        assert second.exit_code == 0
        assert second.stdout != first
        seen |= tokens(engine)
    await_nothing(engine, seen)


def test_template_of_a_program_that_was_killed_goes(engine: EngineProcess) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", OWNER, engine.url], stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "begun\n"
        assert len(ids(engine)) == 1
        seen = tokens(engine)
    finally:
        program.kill()
        program.communicate()
    await_nothing(engine, seen)


def test_engine_that_comes_back_clears_away_what_its_templates_have_left(
    fresh: EngineProcess,
) -> None:
    with orlop.Template(engine=fresh.url) as template:
        waiting = Waiting(fresh, template)
        seen = tokens(fresh)
        fresh.stop(signal.SIGKILL)
        assert isinstance(waiting.result(), UnavailableError)
        assert cgroups(seen)
        fresh.start()
        await_nothing(fresh, seen)
        assert template.run("print('again')").stdout == b"again\n"
        seen = tokens(fresh)
    await_nothing(fresh, seen)


def test_setup_that_needs_more_memory_than_it_has_says_so(engine: EngineProcess) -> None:
    with pytest.raises(UnavailableError, match="ended with 137"):
        orlop.Template(engine=engine.url, memory="32m", setup="x = bytearray(100 << 20)").start()
    wait_until(lambda: ids(engine) == set(), "its container is left")
    wait_until(lambda: tokens(engine) == set(), "its folder is left")
