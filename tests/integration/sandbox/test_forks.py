"""Forks: copies of a sandbox's files, each its own from then on."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

import orlop
from orlop.errors import InvalidArgumentError, WrongStateError
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import Face, ids, wait_until


def shell(box: orlop.Sandbox, script: str) -> bytes:
    result = box.run(["sh", "-ec", script])
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", [None, "usual"])  # with a name it is started in the usual way
@pytest.mark.parametrize("image", ["host", "busybox:test"])
def test_forks_have_the_files_and_go_their_own_ways(
    engine: EngineProcess, busybox_archive: Path, image: str, name: str | None
) -> None:
    engine.docker("load", "-i", str(busybox_archive))
    options = {"environment": {"A": "b"}, "name": name}
    with orlop.Sandbox(engine=engine.url, image=image, **options) as box:  # type: ignore[arg-type]
        shell(box, "echo first >/etc/made; rm /etc/group; mkdir -m 700 /etc/deep; sleep 600 &")
        one, two = box.fork(2)
        state = (
            "cat /etc/made; ls /etc/group 2>/dev/null || echo gone; stat -c %a /etc/deep; echo $A"
        )
        assert shell(one, state) == shell(two, state) == b"first\ngone\n700\nb\n"
        assert b"sleep 600" not in shell(one, "ps -o args")
        shell(one, "echo mine >/etc/made; touch /etc/one")
        shell(box, "echo late >/etc/made")
        assert shell(two, "cat /etc/made; ls -d /etc/one || echo none") == b"first\nnone\n"
        assert [shell(fork, "cat /etc/made") for fork in one.fork(2)] == [b"mine\n"] * 2


def test_forks_end_with_what_they_were_made_of_or_before(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url) as box:
        first, second = box.fork(2)
        (grandchild,) = first.fork()
        with second:
            assert second.run(["true"]).exit_code == 0
        there = {box.id, first.id, grandchild.id}
        assert ids(engine) == there
        first.close()
        assert ids(engine) == {box.id}
        box.fork(3)  # nobody keeps them
        (last,) = box.fork()
        assert last.alive
    wait_until(lambda: ids(engine) == set(), "forks that nobody keeps are still there")
    assert not last.started


def test_commands_that_are_asked_for_during_a_fork_only_wait(engine: EngineProcess) -> None:
    async def work() -> None:
        async with orlop.AsyncSandbox(engine=engine.url) as box:
            await box.run(
                ["sh", "-c", "mkdir /srv/d; for i in $(seq 500); do echo >/srv/d/$i; done"]
            )
            forking = [asyncio.create_task(box.fork(3)) for _ in range(3)]
            results = await asyncio.gather(*(box.run(["echo", "on"]) for _ in range(10)))
            assert {result.stdout for result in results} == {b"on\n"}
            for forks in await asyncio.gather(*forking):
                for fork in forks:
                    count = await fork.run(["sh", "-c", "ls /srv/d | wc -l"])
                    assert count.stdout == b"500\n"

    asyncio.run(work())
    assert ids(engine) == set()


def test_paused_sandbox_is_forked_and_stays_paused(engine_box: orlop.Sandbox) -> None:
    shell(engine_box, "echo x >/etc/x")
    engine_box.pause()
    (fork,) = engine_box.fork()
    assert shell(fork, "cat /etc/x") == b"x\n"
    with pytest.raises(WrongStateError, match="paused"):
        engine_box.run(["true"])


@pytest.mark.parametrize("after_s", [0, 0.001, 0.01])
def test_cancelled_fork_leaves_nothing(engine: EngineProcess, after_s: float) -> None:
    async def work() -> None:
        async with orlop.AsyncSandbox(engine=engine.url) as box:
            forking = asyncio.create_task(box.fork(3))
            await asyncio.sleep(after_s)
            forking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                for fork in await forking:  # it was quicker
                    await fork.close()
            assert ids(engine) == {box.id}

    asyncio.run(work())


def test_what_cannot_be_forked_is_refused(face: Callable[..., Face], engine: EngineProcess) -> None:
    box = face()
    with pytest.raises(InvalidArgumentError, match="number of forks"):
        box.do("fork", 0)
    assert ids(engine) == {box.id}
