"""The engine is killed at any moment of attaching and detaching: nothing is left, nothing lost."""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.engine.networks.attachment import Attachment, Place
from orlop.engine.networks.host import Host
from orlop.model.container import Container
from orlop.model.network import Endpoint, EndpointOptions, Network, PortMapping, Subnet
from orlop.network import veth
from tests.integration.engine.harness import opened, settings, shell, until
from tests.integration.networks.scenes import address, ask, interfaces, machine, made, serve

_SEED = 20
_ATTACHES = 1000
_KILLS = 8


def _in_child(work: Callable[[], None], *, kill_after_s: float = 0.0) -> int:
    """Run *work* in a child; killed after a while, or to its end. Return the wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    if kill_after_s:
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _engine_that_dies(folder: Path, work: Callable[[Engine], Awaitable[None]]) -> None:
    """Run an engine in a child that kills itself when *work* is done."""

    async def run() -> None:
        async with Engine.open(settings(folder)) as engine:
            await work(engine)
            os.kill(os.getpid(), signal.SIGKILL)

    status = _in_child(lambda: asyncio.run(run()))
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_a_killed_engine_s_containers_keep_their_network_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    async def first(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        await made(engine, "b", "10.2.0.0/24")
        await serve(engine, "box", "a", port_bindings={"7000/tcp": (("", "17000"),)})

    async def second() -> None:
        async with opened(tmp_path) as engine:
            box = engine.containers.get("box")
            assert ask(address(box)) == ["box to ::ffff:10.1.0.1"] * 2
            other = await serve(engine, "other", "a")
            assert address(other) == "10.1.0.3"
            await engine.networks.connect("b", "box", EndpointOptions())
            assert sorted(interfaces(box.pid)) == ["eth0", "eth1"]
            clash = shell("true", network="b", port_bindings={"1/tcp": (("", "17000"),)})
            created = await engine.containers.create(clash)
            with pytest.raises(Exception, match="17000"):
                await engine.containers.start(created.id)

    _engine_that_dies(tmp_path, first)
    assert ask("10.1.0.2") == ["box to ::ffff:10.1.0.1"] * 2
    asyncio.run(second())


def test_what_an_engine_was_about_to_attach_is_given_back(tmp_path: Path) -> None:
    """It dies with the record saved, the namespace made, and no process in it."""

    async def first(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/30")
        created = await engine.containers.create(shell("exec sleep 60", network="a"), name="box")
        link = engine._context.shim
        link.request = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign,assignment]
        await engine.containers.start(created.id)

    async def second() -> None:
        async with opened(tmp_path) as engine:
            assert engine.containers.get("box").endpoints == ()
            await engine.containers.start("box")
            assert address(engine.containers.get("box")) == "10.1.0.2"

    _engine_that_dies(tmp_path, first)
    asyncio.run(second())


def test_a_connect_that_was_killed_before_it_said_whose_the_interface_is(tmp_path: Path) -> None:
    async def first(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        await serve(engine, "box", "bridge")
        veth._port = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        await engine.networks.connect("a", "box", EndpointOptions())

    async def second() -> None:
        async with opened(tmp_path) as engine:
            box = engine.containers.get("box")
            assert (box.moving, sorted(interfaces(box.pid))) == (False, ["eth0", "eth1"])
            assert ask("10.1.0.2")[0].startswith("box to ")
            await engine.networks.disconnect("a", "box")
            assert list(interfaces(box.pid)) == ["eth0"]

    _engine_that_dies(tmp_path, first)
    asyncio.run(second())


async def _restless(folder: Path) -> None:
    """Start, connect, disconnect and stop containers for ever."""
    async with Engine.open(settings(folder)) as engine:

        async def one(number: int) -> None:
            for turn in range(1000):
                name = f"c{number}-{os.getpid()}-{turn}"
                ports = {"80/tcp": (("", ""),)} if number else {}
                options = shell("exec sleep 60", network="a", port_bindings=ports)
                await engine.containers.create(options, name=name)
                await engine.containers.start(name)
                await engine.networks.connect("b", name, EndpointOptions())
                await engine.networks.disconnect("a", name)
                await engine.containers.remove(name, force=True)

        await asyncio.gather(one(0), one(1))


def _is_as_recorded(container: Container) -> bool:
    """Whether its interfaces are; not yet where it is on its way into its namespace, or ends."""
    if not container.running:
        return not container.endpoints
    wanted = {one.interface: list(one.addresses) for one in container.endpoints}
    try:
        return interfaces(container.pid) == wanted
    except subprocess.CalledProcessError:
        return False


async def _settled(folder: Path) -> None:
    """Open an engine after one that was killed: all that its records say is so."""
    async with opened(folder) as engine:

        def used() -> list[str]:
            running = [one for one in engine.containers.list(all=True) if one.running]
            endpoints = [endpoint for one in running for endpoint in one.endpoints]
            return [address for one in endpoints for address in one.addresses]

        def devices() -> int:
            return sum(line.startswith("ve") for line in machine())

        assert devices() <= len(used()) + 2  # of those that are ending
        await until(lambda: all(map(_is_as_recorded, engine.containers.list(all=True))))
        assert len(used()) == len(set(used()))
        await until(lambda: devices() == len(used()))


@pytest.mark.slow
def test_an_engine_that_is_killed_at_random_leaves_what_its_records_say(tmp_path: Path) -> None:
    chance = random.Random(_SEED)

    async def networks() -> None:
        async with Engine.open(settings(tmp_path)) as engine:
            await made(engine, "a", "10.1.0.0/24")
            await made(engine, "b", "10.2.0.0/24")

    asyncio.run(networks())
    for _ in range(_KILLS):
        _in_child(
            lambda: asyncio.run(_restless(tmp_path)), kill_after_s=0.5 + chance.random() * 0.6
        )
        asyncio.run(_settled(tmp_path))


def _attach_many(folder: Path, told: int) -> None:
    """Attach and let go in turn, as the network thread does; a byte tells of each."""
    host = Host("0badcafe", folder)
    network = Network(
        id="f" * 64, name="n", subnets=(Subnet(subnet="10.3.0.0/16", gateway="10.3.0.1"),), mtu=1500
    )
    for number in range(_ATTACHES):
        endpoint = Endpoint(
            id=os.urandom(32).hex(),
            network=network.id,
            container=os.urandom(32).hex(),
            interface="eth0",
            addresses=(f"10.3.{number // 250 + 1}.{number % 250 + 2}/16",),
        )
        port = PortMapping(protocol="tcp", container_port=80, host_port=20000 + number)
        wanted = Attachment(endpoint.container, (Place(network, endpoint),), (port,))
        namespaces = host.attach(wanted)
        os.write(told, b".")
        os.close(namespaces["network"])
        host.disconnect(wanted, None)
        host.refill()
    host.close()


@pytest.mark.slow
def test_a_thousand_attaches_with_kills_between_leave_nothing(tmp_path: Path) -> None:
    chance = random.Random(_SEED)
    before = machine()
    near, far = os.pipe()
    os.set_blocking(near, False)
    attached = 0
    while attached < _ATTACHES:
        _in_child(lambda: _attach_many(tmp_path, far), kill_after_s=0.3 + chance.random())
        with suppress(BlockingIOError):  # on a busy machine it may have come to none
            attached += len(os.read(near, 1 << 16))
    os.close(near)
    os.close(far)
    host = Host("0badcafe", tmp_path)
    host.reconcile((), [Network(id="0" * 64, name="other")])
    host.close()
    deadline = time.monotonic() + 10
    while machine() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert machine() == before
