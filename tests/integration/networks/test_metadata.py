"""What a cloud tells its machines is closed to containers that did not ask for it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen, run
from typing import Any

import pytest

from orlop.engine.engine import Engine
from orlop.errors import InvalidArgumentError
from orlop.model.network import EndpointOptions
from tests.integration.engine.harness import with_engine
from tests.integration.networks.egress.world import box, inside, tries
from tests.integration.networks.scenes import made, on

_ADDRESS = "169.254.169.254"
_SERVER = f"""
import socket
with socket.create_server(("{_ADDRESS}", 7000)) as server:
    print("ready", flush=True)
    while True:
        with server.accept()[0] as one:
            while data := one.recv(100):
                one.sendall(data)
"""


@pytest.fixture(autouse=True)
def _metadata() -> Iterator[None]:
    run(["ip", "address", "add", _ADDRESS, "dev", "lo"], check=True)
    try:
        with Popen([sys.executable, "-c", _SERVER], stdout=PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield
            server.kill()
    finally:
        run(["ip", "address", "del", f"{_ADDRESS}/32", "dev", "lo"], check=True)


@pytest.mark.parametrize(
    ("of_network", "of_container", "seen"),
    [
        ({}, {}, "refused"),
        ({}, {"privileged": True}, "refused"),
        ({}, {"egress": ("0.0.0.0/0",)}, "refused"),
        ({}, {"egress": (f"tcp:{_ADDRESS}:7000",)}, "open"),
        ({}, {"networks": on(a=EndpointOptions(driver_options={"metadata": "true"}))}, "open"),
        ({"metadata": "true"}, {}, "open"),
    ],
    ids=["default", "privileged", "all listed", "listed", "container", "network"],
)
def test_metadata_is_closed_unless_asked_for(
    tmp_path: Path, of_network: dict[str, str], of_container: dict[str, Any], seen: str
) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24", options=of_network)
        sender = await box(engine, "sender", "a", **of_container)
        assert await tries(inside(sender), f"tcp/{_ADDRESS}/7000") == [seen]
        await engine.containers.remove(sender.id, force=True)
        neighbour = await box(engine, "neighbour", "a")  # which has the same address
        wanted = "open" if of_network else "refused"
        assert await tries(inside(neighbour), f"tcp/{_ADDRESS}/7000") == [wanted]

    with_engine(tmp_path, work, timeout_s=100)


def test_an_option_for_metadata_is_yes_or_no(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises(InvalidArgumentError, match="metadata is neither true nor false"):
            await made(engine, "a", options={"metadata": "maybe"})

    with_engine(tmp_path, work)
