"""Forks of what runs: each goes on from where the first process was, and its own way."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import orlop
from orlop.errors import UnsupportedError, WrongStateError
from tests.integration.engine.harness import leftovers
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import ids, wait_until
from tests.integration.sandbox.session import COMMAND, answer, ask, asking

Session = Callable[..., orlop.Sandbox]


@pytest.fixture
def session(engine: EngineProcess) -> Iterator[Session]:
    """What starts a sandbox whose first process keeps names; all of them is gone in the end."""
    with contextlib.ExitStack() as stack:
        made: list[orlop.Sandbox] = []

        def start(**options: object) -> orlop.Sandbox:
            given = {"image": "host", "command": COMMAND, "engine": engine.url, **options}
            made.append(stack.enter_context(orlop.Sandbox(**given)))  # type: ignore[arg-type]
            ask(made[-1], "count = 1")
            return made[-1]

        yield start


def remains(engine: EngineProcess, box_ids: set[str]) -> list[str]:
    """Return what speaks of sandboxes: files, cgroups, mounts, processes of the shim's."""
    found = [path for one in box_ids for path in leftovers(engine.root.parent, one)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if str(engine.root.parent) in line]
    with engine.shim() as shim:
        pid = shim.call({"op": "hello"})["ok"]["pid"]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError):
            name = Path(f"/proc/{child}/comm").read_text().strip()
            if name in ("criu", "python3", "sleep"):  # but a reserve, a pump
                found.append(f"process {child}: {name}")
    return found


def test_names_in_memory_and_files_are_each_forks_own(
    session: Session, engine: EngineProcess
) -> None:
    box = session(memory="256m", pids=50, environment={"A": "b"})
    ask(box, "import os, subprocess; child = subprocess.Popen(['sleep', '600'])")
    ask(box, "zombie = subprocess.Popen(['sh', '-c', 'exit 3'])")
    ask(box, "file = open('/srv/file', 'w+'); file.write('one'); file.flush()")
    ask(box, "os.unlink('/srv/file')")
    box.run(["sh", "-c", "echo before >/srv/state"])
    one, two = box.fork(2, processes=True)
    assert ids(engine) == {box.id, one.id, two.id}

    ask(one, "count += 10")
    ask(box, "count += 100")
    one.run(["sh", "-c", "echo mine >/srv/state"])
    assert [ask(each, "count") for each in (box, one, two)] == ["101", "11", "1"]
    state = [each.files.read("/srv/state") for each in (box, one, two)]
    assert state == [b"before\n", b"mine\n", b"before\n"]
    assert ask(one, "child.kill() or child.wait()") == "-9"
    assert ask(two, "zombie.wait()") == "3"
    for each in (box, two):
        assert ask(each, "os.getpid(), child.poll(), os.environ['A']") == "(1, None, 'b')"
        assert ask(each, "file.seek(0) or file.read()") == "'one'"

    (third,) = one.fork(processes=True)
    assert ask(third, "count") == "11"
    assert third.run(["hostname"]).stdout == f"{third.id[:12]}\n".encode()
    third.pause()
    third.resume()
    assert third.usage().peak_memory_bytes > 0


def test_ten_forks_are_gone_with_their_sandbox(session: Session, engine: EngineProcess) -> None:
    box = session()
    forks = box.fork(10, processes=True)
    made = {box.id, *(fork.id for fork in forks)}
    for number, fork in enumerate(forks):
        ask(fork, f"count += {number}")
    assert [ask(fork, "count") for fork in forks] == [str(1 + number) for number in range(10)]
    forks[0].close()
    assert made - ids(engine) == {next(iter(made - ids(engine)))}
    box.close()
    assert ids(engine) == set()
    wait_until(lambda: not remains(engine, made), "something is left of forks that were closed")


def test_asynchronous_forks(engine: EngineProcess) -> None:
    async def work() -> list[str]:
        async with orlop.AsyncSandbox(engine=engine.url, command=COMMAND) as box:
            await box.run(asking("count = 1"))
            forks = await box.fork(2, processes=True)
            await forks[0].run(asking("count += 1"))
            asked = [await one.run(asking("count")) for one in (box, *forks)]
            return [answer(result) for result in asked]

    assert asyncio.run(work()) == ["1", "2", "1"]
    assert ids(engine) == set()


def test_end_of_a_forks_first_process_is_its_own(session: Session, engine: EngineProcess) -> None:
    box = session(keep=True)
    kept = {box.id}
    try:
        ended, killed = box.fork(2, processes=True)
        kept |= {ended.id, killed.id}
        with contextlib.suppress(AssertionError):
            ask(ended, "__import__('os')._exit(7)")
        engine.docker("kill", killed.id)
        assert engine.out("wait", ended.id, killed.id).split() == ["7", "137"]
        assert ask(box, "count") == "1"
    finally:
        engine.docker("rm", "-f", *kept)


def test_paused_sandbox_stays_so_and_its_forks_run(session: Session) -> None:
    box = session(read_only=True)  # then /tmp is in memory, and goes with the processes
    ask(box, "open('/tmp/x', 'w').write('in memory')")
    box.pause()
    (fork,) = box.fork(processes=True)
    assert ask(fork, "open('/tmp/x').read(), count") == "('in memory', 1)"
    with pytest.raises(WrongStateError, match="paused"):
        box.run(["true"])
    box.resume()
    assert ask(box, "count") == "1"


def test_what_cannot_be_forked_runs_on(session: Session, engine: EngineProcess) -> None:
    box = session()
    with box.exec(["sleep", "600"]), pytest.raises(WrongStateError, match="a command runs"):
        box.fork(processes=True)
    ask(box, "large = open('/srv/large', 'w+b'); large.write(bytes(2 << 20)); large.flush()")
    ask(box, "import os; os.unlink('/srv/large')")
    with pytest.raises(UnsupportedError, match=r"criu: .*large"):
        box.fork(2, processes=True)
    assert ids(engine) == {box.id}
    assert ask(box, "large.close() or count") == "1"
    assert ask(box.fork(processes=True)[0], "count") == "1"
    with orlop.Sandbox(engine=engine.url) as quick:
        with pytest.raises(UnsupportedError, match="command="):
            quick.fork(processes=True)
        assert ids(engine) >= {quick.id}
