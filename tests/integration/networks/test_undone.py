"""A start on networks fails at each of its steps in turn, and leaves nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orlop.engine.containers.bundle import Bundles
from orlop.engine.engine import Engine
from orlop.engine.names.names import Names
from orlop.engine.networks.leases import Leases
from orlop.engine.networks.planning import Planner
from orlop.engine.records import Records
from orlop.engine.shimlink import Link
from orlop.errors import OrlopError
from orlop.model.container import ContainerOptions
from orlop.model.network import EndpointOptions
from orlop.network.bridged import Bridged
from orlop.network.firewall.firewall import Firewall
from orlop.network.firewall.reserve import Ports
from orlop.network.firewall.senders import Senders
from orlop.network.namespace import Home, Pool
from tests.integration.engine.harness import shell, until, with_engine
from tests.integration.networks.scenes import can_bind, default_routes, interfaces, machine, made

#: Method, and which of its calls fails: of two networks the second is the harder one.
_STEPS = [
    (Ports, "reserve", 1),
    (Planner, "one", 2),
    (Leases, "take", 2),
    (Records, "save", 1),
    (Pool, "take", 1),
    (Bridged, "create", 2),
    (Bridged, "attach", 1),
    (Bridged, "attach", 2),
    (Firewall, "add_network", 2),
    (Firewall, "publish", 1),
    (Senders, "admit", 1),
    (Home, "inside", 2),
    (Bundles, "refresh", 1),
    (Names, "open", 1),
    (Link, "request", 1),
    (Records, "save", 2),
]


@contextmanager
def _failing(cls: type, name: str, call: int, error: Exception) -> Iterator[None]:
    """Have one *call* of a method raise *error* instead."""
    whole, calls = getattr(cls, name), 0

    def method(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return whole(*args, **kwargs)

    setattr(cls, name, method)
    try:
        yield
        assert calls >= call, f"{cls.__name__}.{name} was called {calls} times"
    finally:
        setattr(cls, name, whole)


def _options() -> ContainerOptions:
    return shell(
        "exec sleep 60",
        network="a",
        networks={"b": EndpointOptions(ipv4="10.2.0.9")},
        port_bindings={"80/tcp": (("", "18080"),)},
    )


async def _cleared(engine: Engine, container_id: str) -> None:
    """Nothing is left of a start that failed, and the next one gets the same."""
    container = engine.containers.get(container_id)
    assert (container.endpoints, container.ports, container.running) == ((), (), False)
    leases = engine.networks._desk.attachments.leases
    used = {name: leases.in_use(engine.networks.find(name)) for name in ("a", "b")}
    assert used == {"a": 0, "b": 0}
    assert can_bind(18080)
    await until(lambda: not [line for line in machine() if line.startswith("ve")])
    await engine.containers.start(container_id)
    box = engine.containers.get(container_id)
    found = interfaces(box.pid)
    assert [found["eth0"][0], found["eth1"][0]] == ["10.1.0.2/24", "10.2.0.9/24"]
    assert not can_bind(18080)


def test_a_failed_start_leaves_nothing(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        for cls, name, call in _STEPS:
            of_kernel = [OSError(5, "no")] if cls in (Bridged, Firewall, Home, Pool) else []
            for error in (OrlopError("no"), *of_kernel):
                await made(engine, "a", "10.1.0.0/24")
                await made(engine, "b", "10.2.0.0/24")
                created = await engine.containers.create(_options())
                with _failing(cls, name, call, error), pytest.raises(OrlopError, match="no"):
                    await engine.containers.start(created.id)
                await _cleared(engine, created.id)
                await engine.containers.remove(created.id, force=True)
                for network in ("a", "b"):  # what is made once is to be made again
                    await engine.networks.remove(network)

    with_engine(tmp_path, work)


_CONNECTING = [
    (Planner, "one", 1),
    (Records, "save", 1),
    (Bridged, "create", 1),
    (Bridged, "attach", 1),
    (Bridged, "attach", 2),
    (Bundles, "refresh", 1),
    (Records, "save", 2),
]


def test_a_failed_connect_leaves_it_as_it_was(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "b", "10.2.0.0/24")
        created = await engine.containers.create(shell("exec sleep 60", network="b"))
        await engine.containers.start(created.id)
        before = engine.containers.get(created.id)
        for cls, name, call in _CONNECTING:
            network = await made(engine, "a", "10.1.0.0/24")
            with _failing(cls, name, call, OrlopError("no")), pytest.raises(OrlopError, match="no"):
                await engine.networks.connect("a", created.id, EndpointOptions())
            assert engine.containers.get(created.id) == before
            assert list(interfaces(before.pid)) == ["eth0"], (cls, name, call)
            assert default_routes(before.pid) == ["10.2.0.1 eth0"], (cls, name, call)
            assert engine.networks._desk.attachments.leases.in_use(network) == 0
            await engine.networks.connect("a", created.id, EndpointOptions())
            assert list(interfaces(before.pid)) == ["eth0", "eth1"]
            await engine.networks.disconnect("a", created.id)
            await engine.networks.remove("a")

    with_engine(tmp_path, work)
