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
from orlop.network.namespace import Home, Pool
from tests.integration.engine.harness import shell, with_engine
from tests.integration.networks.scenes import can_bind, interfaces, machine, made

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


@pytest.mark.parametrize(("cls", "name", "call"), _STEPS)
@pytest.mark.parametrize("error", [OrlopError("no"), OSError(5, "no")], ids=["ours", "kernel's"])
def test_a_failed_start_leaves_nothing(
    tmp_path: Path, cls: type, name: str, call: int, error: Exception
) -> None:
    if isinstance(error, OSError) and cls not in (Bridged, Firewall, Home, Pool):
        pytest.skip("of the kernel nothing is asked there")

    async def work(engine: Engine) -> None:
        networks = [await made(engine, "a", "10.1.0.0/24"), await made(engine, "b", "10.2.0.0/24")]
        created = await engine.containers.create(_options())
        with _failing(cls, name, call, error), pytest.raises(OrlopError, match="no"):
            await engine.containers.start(created.id)
        container = engine.containers.get(created.id)
        assert (container.endpoints, container.ports, container.running) == ((), (), False)
        leases = engine.networks._desk.attachments.leases
        assert [leases.in_use(network) for network in networks] == [0, 0]
        assert can_bind(18080)
        assert not [line for line in machine() if line.startswith("ve")]
        await engine.containers.start(created.id)
        box = engine.containers.get(created.id)
        found = interfaces(box.pid)
        assert [found["eth0"][0], found["eth1"][0]] == ["10.1.0.2/24", "10.2.0.9/24"]
        assert not can_bind(18080)

    with_engine(tmp_path, work)


@pytest.mark.parametrize(
    ("cls", "name", "call"),
    [
        (Planner, "one", 1),
        (Records, "save", 1),
        (Bridged, "create", 1),
        (Bridged, "attach", 1),
        (Bridged, "attach", 2),
        (Bundles, "refresh", 1),
    ],
)
def test_a_failed_connect_leaves_it_as_it_was(
    tmp_path: Path, cls: type, name: str, call: int
) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "b", "10.2.0.0/24")
        network = await made(engine, "a", "10.1.0.0/24")
        created = await engine.containers.create(shell("exec sleep 60", network="b"))
        await engine.containers.start(created.id)
        before = engine.containers.get(created.id)
        with (
            _failing(cls, name, call, OrlopError("no")),
            pytest.raises(OrlopError, match="no"),
        ):
            await engine.networks.connect("a", created.id, EndpointOptions())
        assert engine.containers.get(created.id) == before
        assert list(interfaces(before.pid)) == ["eth0"]
        assert engine.networks._desk.attachments.leases.in_use(network) == 0
        await engine.networks.connect("a", created.id, EndpointOptions())
        assert list(interfaces(before.pid)) == ["eth0", "eth1"]

    with_engine(tmp_path, work)
