"""A host with containers, and plugins: Debian's, and such as misbehave."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cni import hosts
from tests.integration.cni.setup import Setup


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def host() -> Iterator[hosts.Host]:
    with hosts.host() as it:
        yield it


@pytest.fixture
def setup(host: hosts.Host, tmp_path: Path) -> Iterator[Setup]:
    it = Setup(host, tmp_path)
    try:
        yield it
    finally:
        it.close()
