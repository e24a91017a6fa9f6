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
from tests.integration.sandbox.templates.machine import command, members, template_cgroups

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

    def __init__(self, template: orlop.Template) -> None:
        self.outcome: list[orlop.Result | OrlopError] = []
        self._template = template
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_until(self._has_begun, "the run has not begun")

    def _has_begun(self) -> bool:
        return any(b"600.125" in command(pid) for pid in members(template_cgroups()))

    def _run(self) -> None:
        try:
            self.outcome.append(
                self._template.run("import os; os.execvp('sleep', ['sleep', '600.125'])")
            )
        except OrlopError as error:
            self.outcome.append(error)

    def result(self) -> orlop.Result | OrlopError:
        self._thread.join(60)
        return self.outcome[0]


def first_process(engine: EngineProcess, template: orlop.Template) -> int:
    with Client(settings(host=engine.url)) as client:
        return int(client.containers.inspect(template.id)["State"]["Pid"])


def await_nothing(before: set[Path]) -> None:
    wait_until(lambda: template_cgroups() <= before, "cgroups are left")


def test_closing_ends_its_runs_and_leaves_nothing(
    engine: EngineProcess, cgroups_before: set[Path]
) -> None:
    with orlop.Template(engine=engine.url) as template:
        waiting = Waiting(template)
        inside = members(template_cgroups() - cgroups_before)
        assert len(inside) >= 2
    assert isinstance(waiting.result(), UnavailableError)
    assert ids(engine) == set()
    await_nothing(cgroups_before)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside), "a run is left")
    assert list((engine.run / "templates").iterdir()) == []


def test_template_whose_process_has_been_killed_is_started_again(
    engine: EngineProcess, cgroups_before: set[Path]
) -> None:
    setup = "BORN = __import__('os').urandom(8).hex()"
    with orlop.Template(engine=engine.url, setup=setup) as template:
        first = template.run("print(BORN)").stdout
        waiting = Waiting(template)
        os.kill(first_process(engine, template), signal.SIGKILL)
        assert isinstance(waiting.result(), UnavailableError)
        second = template.run("print(BORN)")
        assert second.exit_code == 0
        assert second.stdout != first
    await_nothing(cgroups_before)


def test_template_of_a_program_that_was_killed_goes(
    engine: EngineProcess, cgroups_before: set[Path]
) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", OWNER, engine.url], stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "begun\n"
        assert len(ids(engine)) == 1
    finally:
        program.kill()
        program.communicate()
    wait_until(lambda: ids(engine) == set(), "the template is left")
    await_nothing(cgroups_before)


def test_engine_that_comes_back_clears_away_what_its_templates_have_left(
    fresh: EngineProcess, cgroups_before: set[Path]
) -> None:
    with orlop.Template(engine=fresh.url) as template:
        waiting = Waiting(template)
        fresh.stop(signal.SIGKILL)
        assert isinstance(waiting.result(), UnavailableError)
        fresh.start()
        await_nothing(cgroups_before)
        wait_until(lambda: ids(fresh) == set(), "the template's container is left")
        assert template.run("print('again')").stdout == b"again\n"
    assert ids(fresh) == set()
    await_nothing(cgroups_before)


def test_setup_that_needs_more_memory_than_it_has_says_so(
    engine: EngineProcess, cgroups_before: set[Path]
) -> None:
    with pytest.raises(UnavailableError, match="ended with 137"):
        orlop.Template(engine=engine.url, memory="32m", setup="x = bytearray(100 << 20)").start()
    wait_until(lambda: ids(engine) == set(), "its container is left")
    await_nothing(cgroups_before)
