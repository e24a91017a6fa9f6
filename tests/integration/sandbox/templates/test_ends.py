"""When a template ends, and what is left of it: nothing."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import orlop
from orlop.client.address import settings
from orlop.client.client import Client
from orlop.errors import OrlopError, UnavailableError, WrongStateError
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

SHARER = """
import multiprocessing, sys, orlop
template = orlop.Template(engine=sys.argv[1]).start()
template.run("pass")
def right(number):
    return template.run(f"print({number})").stdout == b"%d\\n" % number
with multiprocessing.get_context("fork").Pool(4) as processes:
    print(sum(processes.map(right, range(40))), "right")
template.close()
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
        return self.process() is not None

    def process(self) -> int | None:
        inside = members(tokens(self._engine))
        return next((pid for pid in inside if b"600.125" in command(pid)), None)

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


def test_run_that_was_killed_from_outside_is_no_news_of_the_template(
    engine: EngineProcess,
) -> None:
    with orlop.Template(engine=engine.url) as template:
        before, waiting = template.id, Waiting(engine, template)
        status = Path(f"/proc/{waiting.process()}/status").read_text()
        guard = int(status.partition("PPid:")[2].split()[0])
        os.kill(guard, signal.SIGKILL)
        killed = waiting.result()
        assert isinstance(killed, orlop.Result)
        assert (killed.exit_code, killed.timed_out) == (137, False)
        assert template.run("print('well')").stdout == b"well\n"
        assert template.id == before


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


def test_engine_that_ends_with_its_templates_leaves_nothing(fresh: EngineProcess) -> None:
    with ExitStack() as templates:
        for _ in range(4):
            templates.enter_context(orlop.Template(engine=fresh.url))
        seen = tokens(fresh)
    fresh.stop()
    assert len(seen) == 4
    assert tokens(fresh) == set()
    assert cgroups(seen) == []


def test_setup_that_needs_more_memory_than_it_has_says_so(engine: EngineProcess) -> None:
    with pytest.raises(UnavailableError, match="ended with 137"):
        orlop.Template(engine=engine.url, memory="32m", setup="x = bytearray(100 << 20)").start()
    wait_until(lambda: ids(engine) == set(), "its container is left")
    wait_until(lambda: tokens(engine) == set(), "its folder is left")


def test_template_that_was_closed_says_so(engine: EngineProcess) -> None:
    with orlop.Template(engine=engine.url) as template:
        pass
    with pytest.raises(WrongStateError, match="the template has been closed"):
        template.run("pass")


def test_setup_that_does_not_end_in_its_time_is_ended(engine: EngineProcess) -> None:
    slow = orlop.Template(engine=engine.url, setup="while True: pass", setup_timeout=1)
    with pytest.raises(UnavailableError, match="have not ended in 1 s"):
        slow.start()
    wait_until(lambda: ids(engine) == set(), "its container is left")
    with pytest.raises(WrongStateError, match="not started"):
        slow.run("pass")


def test_run_that_starts_a_template_again_waits_no_longer_for_its_setup(
    engine: EngineProcess, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)  # a template's root is not ours
    go = tmp_path / "go"
    go.touch()
    with orlop.Template(
        engine=engine.url,
        setup="import os, time\nwhile not os.path.exists('/there/go'): time.sleep(0.01)",
        setup_timeout=6,
        mounts=[f"{tmp_path}:/there"],
    ) as template:
        go.unlink()
        os.kill(first_process(engine, template), signal.SIGKILL)
        with pytest.raises(UnavailableError, match="have not ended in 6 s"):
            template.run("pass")
        go.touch()
        assert template.run("print('again')").stdout == b"again\n"


def test_template_whose_lifetime_is_over_is_not_started_again(engine: EngineProcess) -> None:
    with orlop.Template(engine=engine.url, lifetime=6) as template:
        for _ in range(2):  # it ends during the first
            with pytest.raises(WrongStateError, match="lifetime of 6 s is over"):
                template.run("import time; time.sleep(600)")
        wait_until(lambda: ids(engine) == set(), "its container is left")


def test_processes_that_were_forked_share_a_template(engine: EngineProcess) -> None:
    program = subprocess.run(
        [sys.executable, "-c", SHARER, engine.url],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert program.stdout == "40 right\n", program.stderr
