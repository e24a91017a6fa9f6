"""What happens while a container gets on or off a network: a stop, an end, a removal."""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from orlop.engine.engine import Engine
from orlop.engine.networks.attachments import Attachments
from orlop.engine.networks.host import Host
from orlop.engine.networks.naming import Naming
from orlop.engine.reconcile import Reconciler
from orlop.errors import InvalidArgumentError, NotFoundError, WrongStateError
from orlop.model.container import RestartPolicy
from orlop.model.network import EndpointOptions
from orlop.network.bridge_device import name_of
from tests.integration.engine.harness import opened, settings, shell, until, with_engine
from tests.integration.networks.scenes import address, interfaces, made, on, serve, server


def test_a_network_is_meant_by_its_id_as_well(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        network = await made(engine, "a", "10.1.0.0/24")
        for number, ref in enumerate((network.id, network.id[:12]), 2):
            box = await serve(engine, f"box{number}", ref)
            assert interfaces(box.pid) == {"eth0": [f"10.1.0.{number}/24"]}
            assert box.options.network == ref
            assert list(box.options.networks) == ["a"]
        wanted = EndpointOptions(ipv4="10.1.0.9")
        box = await serve(engine, "box9", network.id, networks={"a": wanted})
        assert interfaces(box.pid) == {"eth0": ["10.1.0.9/24"]}
        twice = {"a": wanted, network.id: EndpointOptions(ipv4="10.1.0.8")}
        with pytest.raises(InvalidArgumentError, match="network a is there twice"):
            await serve(engine, "box8", "a", networks=twice)
        for name in ("host", "none"):
            with pytest.raises(InvalidArgumentError, match="cannot be"):
                await serve(engine, "no", engine.networks.find(name).id)

    with_engine(tmp_path, work)


def test_nobody_gets_on_a_network_that_goes_meanwhile(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        box = await serve(engine, "box", "a")
        await made(engine, "b", "10.2.0.0/24")
        async with engine.networks._context.live(box.id).lock:
            connecting = asyncio.create_task(engine.networks.connect("b", "box", EndpointOptions()))
            await asyncio.sleep(0)
            await engine.networks.remove("b")
        with pytest.raises(NotFoundError, match="not found"):
            await connecting
        assert list(engine.containers.get("box").options.networks) == ["a"]

    with_engine(tmp_path, work)


@pytest.mark.parametrize("change", ["connect", "disconnect"])
def test_a_stop_is_remembered_that_comes_while_networks_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    method = getattr(Host, change)

    def slow(*args: Any) -> None:
        begun.set()
        goes_on.wait(20)
        method(*args)

    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        await made(engine, "b", "10.2.0.0/24")
        await serve(engine, "box", "a")
        monkeypatch.setattr(Host, change, slow)
        if change == "connect":
            changing = asyncio.create_task(engine.networks.connect("b", "box", EndpointOptions()))
        else:
            changing = asyncio.create_task(engine.networks.disconnect("a", "box"))
        await asyncio.to_thread(begun.wait, 20)
        await engine.containers.kill("box", signal="TERM")  # its first process takes no notice
        goes_on.set()
        await changing
        box = engine.containers.get("box")
        assert box.stopped_by_user
        assert len(box.endpoints) == (2 if change == "connect" else 0)

    with_engine(tmp_path, work)


def test_what_ends_while_an_engine_begins_has_no_name_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = Naming.open

    async def late(self: Naming, container: Any, *args: Any) -> None:
        os.kill(container.pid, signal.SIGKILL)
        await asyncio.sleep(0.5)  # its end is told, and would be taken in
        await opening(self, container, *args)

    async def work() -> None:
        async with Engine.open(settings(tmp_path)) as engine:
            await made(engine, "a", "10.1.0.0/24")
            await serve(engine, "box", "a")
        monkeypatch.setattr(Naming, "open", late)
        async with opened(tmp_path) as engine:
            await until(lambda: not engine.containers.get("box").running)
            naming = engine.networks._desk.attachments._naming
            await until(lambda: not naming._names._listeners)
            assert not engine.containers.get("box").endpoints

    asyncio.run(work())


def test_a_policy_starts_nothing_before_networks_are_put_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    run, attach, reconcile = Reconciler.run, Host.attach, Host.reconcile

    async def slow(*args: Any) -> None:
        await run(*args)
        await asyncio.sleep(1.0)  # more than the policy waits

    def attached(*args: Any) -> Any:
        done.append("attach")
        return attach(*args)

    def reconciled(*args: Any) -> None:
        done.append("reconcile")
        reconcile(*args)

    async def work() -> None:
        async with Engine.open(settings(tmp_path)) as engine:
            await made(engine, "a", "10.1.0.0/24")
            box = await serve(engine, "box", "a", restart=RestartPolicy(name="always"))
        os.kill(box.pid, signal.SIGKILL)
        monkeypatch.setattr(Reconciler, "run", slow)
        monkeypatch.setattr(Host, "attach", attached)
        monkeypatch.setattr(Host, "reconcile", reconciled)
        async with opened(tmp_path) as engine:
            await until(lambda: engine.containers.get("box").running)
            assert interfaces(engine.containers.get("box").pid) == {"eth0": ["10.1.0.2/24"]}
        assert done[:2] == ["reconcile", "attach"]

    asyncio.run(work())


def test_who_left_meanwhile_is_not_put_on_a_bridge_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        network = await made(engine, "a", "10.1.0.0/24")
        box = await serve(engine, "box", "a")
        attachments = engine.networks._desk.attachments
        async with engine.networks._context.live(box.id).lock:
            leaving = asyncio.create_task(engine.networks.disconnect("a", "box"))
            await asyncio.sleep(0)
            restoring = asyncio.create_task(attachments.restore({name_of(network)}, rules=False))
            await asyncio.sleep(0.2)
        await asyncio.gather(leaving, restoring)
        assert interfaces(box.pid) == {}

    with_engine(tmp_path, work)


def test_who_shares_a_network_that_ended_has_nothing_of_it(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        owner = await serve(engine, "owner", "a")
        for name, mode in (("user", "container:owner"), ("third", "container:user")):
            await engine.containers.create(shell("sleep 600", network=mode), name=name)
            await engine.containers.start(name)
        await engine.containers.stop("user", timeout_s=0)
        third = engine.containers.get("third")
        assert interfaces(third.pid) == {"eth0": ["10.1.0.2/24"]}
        await engine.containers.stop("owner", timeout_s=0)
        await until(lambda: interfaces(third.pid) == {})
        other = await serve(engine, "other", "a")
        assert address(other) == address(owner)

    with_engine(tmp_path, work)


def test_nobody_joins_his_own_network(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        for name, mode in (("own", "own"), ("one", "two"), ("two", "one")):
            await engine.containers.create(shell("true", network=f"container:{mode}"), name=name)
        for name in ("own", "one", "two"):
            with pytest.raises(WrongStateError, match="cannot join own network"):
                await engine.containers.start(name)

    with_engine(tmp_path, work)


def test_rules_are_watched_on_after_a_repair_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore, failed = Attachments.restore, asyncio.Event()

    async def broken(self: Attachments, bridges: Collection[str], *, rules: bool) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError
        await restore(self, bridges, rules=rules)

    def rules() -> bytes:
        return subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout

    async def work(engine: Engine) -> None:
        monkeypatch.setattr(Attachments, "restore", broken)
        await serve(engine, "box", "bridge")
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        await asyncio.wait_for(failed.wait(), 20)
        subprocess.run(["nft", "add", "table", "inet", "firewalld"], check=True)  # a change
        await until(lambda: b"orlop-" in rules())
        subprocess.run(["nft", "delete", "table", "inet", "firewalld"], check=True)

    with_engine(tmp_path, work)


def test_an_address_that_is_being_made_ready_for_nobody_is_given_to_who_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> None:
        network = await made(engine, "a", "10.1.0.0/24")
        asking = server("box", "a", networks=on(a=EndpointOptions(ipv4="10.1.0.2")))
        box = await engine.containers.create(asking)
        ready = engine.networks._desk.attachments.ready
        plug, begun, goes_on = ready._plug, asyncio.Event(), asyncio.Event()

        async def late(*args: Any) -> Any:
            begun.set()
            await goes_on.wait()
            return await plug(*args)

        monkeypatch.setattr(ready, "_plug", late)
        sample = replace(
            engine.containers.get(box.id),
            options=server("any", "a", networks=on(a=EndpointOptions())),
        )
        making = asyncio.create_task(ready._make(network, sample, {}))
        await begun.wait()
        asyncio.get_running_loop().call_later(0.1, goes_on.set)
        await engine.containers.start(box.id)
        await making
        assert address(engine.containers.get(box.id)) == "10.1.0.2"

    with_engine(tmp_path, work)
