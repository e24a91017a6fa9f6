"""The life of containers, against the kernel, by way of the engine alone."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from orlop.engine.containers import names
from orlop.engine.containers.cgroup import cgroup_of
from orlop.engine.engine import Engine
from orlop.engine.requests import LogRequest
from orlop.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    WrongStateError,
)
from orlop.model.container import (
    ContainerOptions,
    ExecOptions,
    Health,
    HealthState,
    MountPoint,
    RestartPolicy,
    Status,
)
from tests.integration.engine.harness import (
    leftovers,
    mounts_of,
    output,
    run,
    shell,
    until,
    with_engine,
)


def test_a_container_runs_and_tells_its_output_and_exit_code(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        ref = await run(engine, shell("echo out; echo err >&2; exit 5"))
        container = engine.containers.get(ref)
        assert container.status == Status.EXITED
        assert container.exit_code == 5
        assert sorted((await output(engine, ref)).split()) == ["err", "out"]

    with_engine(tmp_path, work)


def test_nothing_is_left_of_a_removed_container(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        ref = await run(engine, shell("true"))
        assert leftovers(tmp_path, ref)
        await engine.containers.remove(ref)
        assert leftovers(tmp_path, ref) == []
        assert mounts_of(tmp_path) == []

    with_engine(tmp_path, work)


def test_auto_remove_leaves_nothing_and_tells_the_exit_code(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("exit 3", auto_remove=True))
        over = asyncio.ensure_future(engine.containers.wait(created.id, condition="removed"))
        await asyncio.sleep(0)
        await engine.containers.start(created.id)
        assert (await asyncio.wait_for(over, 20)).exit_code == 3
        await until(lambda: leftovers(tmp_path, created.id) == [])
        with pytest.raises(NotFoundError, match="No such container"):
            engine.containers.get(created.id)

    with_engine(tmp_path, work)


def test_a_taken_name_is_refused_in_dockers_words(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        first = await engine.containers.create(shell("true"), name="web")
        with pytest.raises(AlreadyExistsError, match=f'"/web" is already in use .*"{first.id}"'):
            await engine.containers.create(shell("true"), name="web")
        with pytest.raises(InvalidArgumentError, match="Invalid container name"):
            await engine.containers.create(shell("true"), name="../web")

    with_engine(tmp_path, work)


def test_stop_asks_first_and_kills_what_does_not_listen(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        polite = await engine.containers.create(
            shell("trap 'exit 9' TERM; while :; do sleep .1; done")
        )
        deaf = await engine.containers.create(
            shell("trap '' TERM; echo up; while :; do sleep .1; done")
        )
        for created in (polite, deaf):
            await engine.containers.start(created.id)
        await asyncio.sleep(0.3)
        assert await engine.containers.stop(polite.id, timeout_s=10)
        assert engine.containers.get(polite.id).exit_code == 9
        assert await engine.containers.stop(deaf.id, timeout_s=0)
        assert engine.containers.get(deaf.id).exit_code == 137
        assert not await engine.containers.stop(deaf.id)

    with_engine(tmp_path, work)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("no-such-program",), 127, "executable file not found"),
        (("/etc",), 126, "permission denied"),
    ],
)
def test_a_command_that_cannot_run_gives_dockers_exit_code(
    tmp_path: Path, command: tuple[str, ...], code: int, words: str
) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(ContainerOptions(image="host", command=command))
        with pytest.raises(OrlopError, match=words):
            await engine.containers.start(created.id)
        container = engine.containers.get(created.id)
        assert container.status == Status.CREATED
        assert container.exit_code == code
        assert [path for path in leftovers(tmp_path, created.id) if "cgroup" in path] == []

    with_engine(tmp_path, work)


def test_a_killed_container_has_ended_when_kill_returns(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        for _ in range(5):
            created = await engine.containers.create(shell("exec sleep 60"))
            await engine.containers.start(created.id)
            await engine.containers.kill(created.id)
            assert engine.containers.get(created.id).status == Status.EXITED
            await engine.containers.remove(created.id)

    with_engine(tmp_path, work)


def test_restart_keeps_a_container_that_is_removed_at_its_end(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("exec sleep 60", auto_remove=True))
        await engine.containers.start(created.id)
        first = engine.containers.get(created.id).pid
        await engine.containers.restart(created.id, timeout_s=0)
        assert engine.containers.get(created.id).pid not in (0, first)
        over = asyncio.ensure_future(engine.containers.wait(created.id, condition="removed"))
        await asyncio.sleep(0)
        await engine.containers.stop(created.id, timeout_s=0)
        await asyncio.wait_for(over, 20)
        assert leftovers(tmp_path, created.id) == []

    with_engine(tmp_path, work)


def test_on_failure_restarts_as_often_as_asked(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        policy = RestartPolicy(name="on-failure", maximum_retry_count=2)
        created = await engine.containers.create(shell("echo run; exit 1", restart=policy))
        await engine.containers.start(created.id)
        await until(lambda: engine.containers.get(created.id).restart_count == 2)
        await until(lambda: engine.containers.get(created.id).status == Status.EXITED)
        await asyncio.sleep(0.5)
        assert (await output(engine, created.id)).split() == ["run"] * 3

    with_engine(tmp_path, work)


def test_what_the_user_stopped_is_not_restarted(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        options = shell("exec sleep 60", restart=RestartPolicy(name="always"))
        created = await engine.containers.create(options)
        await engine.containers.start(created.id)
        await engine.containers.stop(created.id, timeout_s=0)
        await asyncio.sleep(0.4)
        assert engine.containers.get(created.id).status == Status.EXITED

    with_engine(tmp_path, work)


def test_paused_processes_do_not_run(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("while :; do echo x; sleep .02; done"))
        await engine.containers.start(created.id)
        await asyncio.sleep(0.2)
        await engine.containers.pause(created.id)
        await asyncio.sleep(0.1)
        before = await output(engine, created.id)
        await asyncio.sleep(0.3)
        assert await output(engine, created.id) == before
        with pytest.raises(WrongStateError, match="already paused"):
            await engine.containers.pause(created.id)
        await engine.containers.unpause(created.id)
        await asyncio.sleep(0.3)
        assert len(await output(engine, created.id)) > len(before)
        await engine.containers.stop(created.id, timeout_s=0)

    with_engine(tmp_path, work)


def test_a_probe_that_takes_too_long_keeps_its_output(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        check = Health(
            test=("CMD-SHELL", "echo begun; sleep 60"),
            interval_ns=1_000_000,
            timeout_ns=500_000_000,
        )
        created = await engine.containers.create(shell("sleep 60", health=check))
        await engine.containers.start(created.id)

        def outputs() -> list[str]:
            health = engine.containers.get(created.id).health
            return [result.output for result in health.log] if health else []

        await until(lambda: bool(outputs()))
        assert outputs()[0] == "Health check exceeded timeout (0.5s): begun\n"

    with_engine(tmp_path, work)


def test_a_check_that_never_comes_to_its_program_makes_unhealthy_in_time(tmp_path: Path) -> None:
    """Its cgroup stands still, as where the container stops whatever joins it."""

    async def work(engine: Engine) -> None:
        check = Health(
            test=("CMD", "true"), interval_ns=50_000_000, timeout_ns=500_000_000, retries=1
        )
        created = await engine.containers.create(shell("sleep 60", health=check))
        await engine.containers.start(created.id)

        def health() -> HealthState:
            found = engine.containers.get(created.id).health
            assert found is not None
            return found

        await until(lambda: health().status == "healthy")
        cgroup = cgroup_of(engine.containers.get(created.id))
        cgroup.freeze()
        try:
            await until(lambda: health().status == "unhealthy")
        finally:
            cgroup.thaw()
        assert "Health check exceeded timeout (0.5s)" in health().log[-1].output
        await until(lambda: health().status == "healthy")

    with_engine(tmp_path, work)


def test_health_becomes_healthy_and_then_unhealthy(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        check = Health(
            test=("CMD-SHELL", "echo checked; test -e /tmp/ok"), interval_ns=100_000_000, retries=2
        )
        created = await engine.containers.create(
            shell("touch /tmp/ok; sleep 1; rm /tmp/ok; sleep 60", health=check)
        )
        await engine.containers.start(created.id)

        def status() -> str:
            health = engine.containers.get(created.id).health
            return health.status if health else "none"

        assert status() == "starting"
        await until(lambda: status() == "healthy")
        await until(lambda: status() == "unhealthy")
        health = engine.containers.get(created.id).health
        assert health is not None
        assert health.log[-1].output == "checked\n"
        assert health.log[-1].exit_code == 1
        assert len(health.log) <= 5
        await engine.containers.stop(created.id, timeout_s=0)

    with_engine(tmp_path, work)


def test_an_empty_volume_takes_what_the_image_has(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        mount = MountPoint(type="volume", target="/var", source="data")
        ref = await run(engine, shell("ls /var; echo mine > /var/mine", mounts=(mount,)))
        assert "tmp" in (await output(engine, ref)).split()
        again = await run(engine, shell("cat /var/mine", mounts=(mount,)))
        assert await output(engine, again) == "mine\n"
        with pytest.raises(WrongStateError, match="volume is in use"):
            await engine.volumes.remove("data")
        for one in (ref, again):
            await engine.containers.remove(one, volumes=True)
        assert engine.volumes.get("data").volume.name == "data"
        await engine.volumes.remove("data")
        with pytest.raises(NotFoundError):
            engine.volumes.get("data")

    with_engine(tmp_path, work)


def test_anonymous_volumes_go_with_their_container(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        ref = await run(engine, shell("true", volumes=("/data",), auto_remove=False))
        assert len(engine.volumes.list()) == 1
        await engine.containers.remove(ref, volumes=True)
        assert list(engine.volumes.list()) == []
        await until(lambda: not list((tmp_path / "root" / "volumes").iterdir()))

    with_engine(tmp_path, work)


def test_memory_limit_is_changed_while_it_runs(tmp_path: Path) -> None:
    from orlop.engine.requests import UpdateRequest
    from orlop.model.container import Resources

    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("exec sleep 60"))
        await engine.containers.start(created.id)
        limits = Resources(pids_limit=17)
        await engine.containers.update(created.id, UpdateRequest(resources=limits))
        assert (await engine.containers.stats(created.id)).pids.limit == 17
        assert engine.containers.get(created.id).options.resources.pids_limit == 17
        await engine.containers.stop(created.id, timeout_s=0)

    with_engine(tmp_path, work)


def test_pid_namespace_of_another_container_can_be_joined(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        first = await engine.containers.create(shell("exec sleep 61"), name="first")
        second = await engine.containers.create(
            shell("cat /proc/1/cmdline | tr '\\0' ' '", pid="container:first")
        )
        with pytest.raises(WrongStateError, match="non running"):
            await engine.containers.start(second.id)
        await engine.containers.start(first.id)
        over = asyncio.ensure_future(engine.containers.wait(second.id, condition="next-exit"))
        await asyncio.sleep(0)
        await engine.containers.start(second.id)
        await over
        assert await output(engine, second.id) == "sleep 61 "
        await engine.containers.stop(first.id, timeout_s=0)

    with_engine(tmp_path, work)


def test_wait_started_before_the_start_sees_the_exit(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("exit 4"))
        waits = [
            asyncio.ensure_future(engine.containers.wait(created.id, condition="next-exit"))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        await engine.containers.start(created.id)
        finished = await asyncio.wait_for(asyncio.gather(*waits), 10)
        assert [one.exit_code for one in finished] == [4, 4, 4]

    with_engine(tmp_path, work)


def test_containers_made_side_by_side_get_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "_CREATURES", "heron")  # 69 names: two get the same, first

    async def work(engine: Engine) -> None:
        made = await asyncio.gather(*(engine.containers.create(shell("true")) for _ in range(20)))
        assert len({engine.containers.get(one.id).name for one in made}) == 20
        with pytest.raises(InvalidArgumentError):
            await engine.containers.create(shell("true", userns="nonsense"), name="wanted")
        await engine.containers.create(shell("true"), name="wanted")

    with_engine(tmp_path, work)


def test_containers_start_side_by_side(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        refs = await asyncio.gather(*(run(engine, shell(f"exit {n}")) for n in range(8)))
        assert [engine.containers.get(ref).exit_code for ref in refs] == list(range(8))

    with_engine(tmp_path, work)


def test_a_users_start_counts_restarts_anew(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        policy = RestartPolicy(name="on-failure", maximum_retry_count=1)
        created = await engine.containers.create(shell("exit 1", restart=policy))
        for _ in range(2):
            await engine.containers.start(created.id)
            await until(lambda: engine.containers.get(created.id).status == Status.EXITED)
            assert engine.containers.get(created.id).restart_count == 1

    with_engine(tmp_path, work)


def test_a_log_that_is_followed_ends_with_its_container(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(
            shell("for i in 1 2 3; do echo $i; sleep .2; done")
        )
        await engine.containers.start(created.id)
        entries = await engine.containers.logs(created.id, LogRequest(follow=True))
        lines = [entry.text async for batch in entries for entry in batch]
        assert lines == [b"1\n", b"2\n", b"3\n"]
        entries = await engine.containers.logs(created.id, LogRequest(tail=1))
        assert [entry.text async for batch in entries for entry in batch] == [b"3\n"]

    with_engine(tmp_path, work)


def test_exec_runs_in_the_container_and_tells_its_exit_code(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("exec sleep 60", hostname="inside"))
        await engine.containers.start(created.id)
        options = ExecOptions(command=("sh", "-c", "hostname; exit 4"))
        ended = await engine.execs.capture(created.id, options, timeout_s=10, limit=1000)
        assert (ended.exit_code, ended.output()) == (4, b"inside\n")
        slow = ExecOptions(command=("sleep", "50"))
        late = await engine.execs.capture(created.id, slow, timeout_s=0.3, limit=10)
        assert (late.exit_code, late.output()) == (None, b"")
        await until(lambda: len(engine.execs.of(created.id)) == 0)
        titles = (await engine.containers.top(created.id)).titles
        rows = (await engine.containers.top(created.id)).rows
        assert titles[1] == "PID"
        assert [row[-1] for row in rows] == ["sleep 60"]
        await engine.containers.stop(created.id, timeout_s=0)

    with_engine(tmp_path, work)


def test_what_a_removed_container_wrote_is_off_the_disk_soon(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        ref = await run(engine, shell("head -c 1M /dev/zero >/srv/found-me"))
        assert list(tmp_path.rglob("found-me"))
        await engine.containers.remove(ref)
        await until(lambda: not list(tmp_path.rglob("found-me")))

    with_engine(tmp_path, work)


def test_a_log_that_is_followed_is_whole_though_its_container_is_removed(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("sleep .1; echo last", auto_remove=True))
        pieces = await engine.containers.logs(created.id, LogRequest(follow=True))
        await anext(pieces)  # now the log is open
        gone = asyncio.ensure_future(engine.containers.wait(created.id, condition="removed"))
        await asyncio.sleep(0)
        await engine.containers.start(created.id)
        await asyncio.wait_for(gone, 20)
        assert [entry.text async for batch in pieces for entry in batch] == [b"last\n"]

    with_engine(tmp_path, work)


_WHILE_IT_STARTS: dict[str, Callable[[Engine, str], Awaitable[Any]]] = {
    "kill": lambda engine, ref: engine.containers.kill(ref),
    "stop": lambda engine, ref: engine.containers.stop(ref, timeout_s=0),
    "remove": lambda engine, ref: engine.containers.remove(ref, force=True),
    "exec": lambda engine, ref: engine.execs.create(ref, ExecOptions(command=("true",))),
    "top": lambda engine, ref: engine.containers.top(ref),
    "stats": lambda engine, ref: engine.containers.stats(ref),
    "resize": lambda engine, ref: engine.containers.resize(ref, height=2, width=2),
}


@pytest.mark.parametrize("what", _WHILE_IT_STARTS)
def test_a_container_whose_output_may_have_been_seen_is_found_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async def work(engine: Engine) -> None:
        created = await engine.containers.create(shell("exec sleep 60"))
        link, runs, goes_on = engine._context.shim, asyncio.Event(), asyncio.Event()
        request = link.request

        async def late(message: dict[str, Any], *fds: Any) -> Any:
            answer = await request(message, *fds)
            if message["op"] == "start":
                runs.set()
                await goes_on.wait()
            return answer

        monkeypatch.setattr(link, "request", late)
        starting = asyncio.create_task(engine.containers.start(created.id))
        await runs.wait()
        asyncio.get_running_loop().call_later(0.1, goes_on.set)
        assert await _WHILE_IT_STARTS[what](engine, created.id) is not False
        assert await starting

    with_engine(tmp_path, work)
