"""Published ports lead to where a container is, also once its networks have changed."""

import subprocess
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.engine.networks.naming import Naming
from orlop.model.network import EndpointOptions
from tests.integration.engine.harness import until, with_engine
from tests.integration.networks.scenes import made, serve

PORTS = {"7000/tcp": (("", "17000"),)}


def _leads_to() -> str:
    """Return the address in the rules that the port leads to."""
    said = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    found = [line.split() for line in said.stdout.splitlines() if "17000 :" in line]
    return " ".join(" ".join(words).partition("17000 : ")[2].split()[0] for words in found)


def test_a_port_follows_its_container_to_the_network_that_is_left(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        await made(engine, "b", "10.2.0.0/24")
        await serve(engine, "box", "a", port_bindings=PORTS)
        await engine.networks.connect("b", "box", EndpointOptions())
        assert _leads_to() == "10.1.0.2"
        await engine.networks.disconnect("a", "box")
        await serve(engine, "other", "a")
        assert _leads_to() == "10.2.0.2"
        await engine.networks.disconnect("b", "box")
        assert _leads_to() == ""
        await engine.networks.connect("b", "box", EndpointOptions())
        assert _leads_to() == "10.2.0.2"
        await engine.containers.stop("box", timeout_s=0)
        await until(lambda: _leads_to() == "")

    with_engine(tmp_path, work)


def test_a_port_is_published_once_there_is_a_way_to_the_world(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "inner", "10.1.0.0/24", internal=True)
        await made(engine, "z", "10.2.0.0/24")
        await made(engine, "a", "10.3.0.0/24")
        await serve(engine, "box", "inner", port_bindings=PORTS)
        assert _leads_to() == ""
        await engine.networks.connect("z", "box", EndpointOptions())
        assert _leads_to() == "10.2.0.2"
        await engine.networks.connect("a", "box", EndpointOptions())  # the first by name is the way
        assert _leads_to() == "10.3.0.2"
        await engine.containers.stop("box", timeout_s=0)
        await until(lambda: _leads_to() == "")

    with_engine(tmp_path, work)


def test_a_connect_that_fails_leaves_the_ports_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = Naming.open

    async def refuse(*_: object) -> None:
        monkeypatch.setattr(Naming, "open", opening)
        raise OSError("no room")

    async def work(engine: Engine) -> None:
        await made(engine, "z", "10.2.0.0/24")
        await made(engine, "a", "10.3.0.0/24")
        await serve(engine, "box", "z", port_bindings=PORTS)
        monkeypatch.setattr(Naming, "open", refuse)
        with pytest.raises(OSError, match="no room"):
            await engine.networks.connect("a", "box", EndpointOptions())
        assert _leads_to() == "10.2.0.2"

    with_engine(tmp_path, work)
