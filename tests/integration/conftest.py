"""Fixtures that several rooms share: a real engine, a real registry, a small image."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import engines
from tests.integration.images import servers
from tests.outside import in_network_of_its_own


@pytest.fixture(scope="session", autouse=True)
def network_of_the_tests() -> Iterator[None]:
    """Put tests, and every process that they start, in a network namespace of their own.

    It has a loopback and nothing else: what engines do to the network, no host sees.
    """
    if os.geteuid() != 0:
        yield
        return
    with in_network_of_its_own():
        yield


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[engines.EngineProcess]:
    """An engine with a root and run folder of its own, for one module."""
    process = engines.EngineProcess(tmp_path_factory.mktemp("e"))
    try:
        process.start()
        yield process
    finally:
        process.close()


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`docker save` of an image busybox:test: a shell as its command, PATH as its environment."""
    return engines.docker_archive(
        tmp_path_factory.mktemp("image") / "busybox.tar",
        tags=["busybox:test"],
        config={"Env": ["PATH=/bin"], "Cmd": ["sh"], "Labels": {"who": "test"}},
    )


@pytest.fixture(scope="session")
def loopback_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a docker-registry over plain HTTP."""
    with servers.registry(tmp_path_factory.mktemp("registry")) as address:
        yield address
