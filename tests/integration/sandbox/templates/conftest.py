"""Templates of a real engine, and what of them the machine shows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import orlop
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.templates.machine import template_cgroups

SETUP = """
import json
BORN = __import__("os").urandom(8).hex()
kept = []
"""


@pytest.fixture(scope="module")
def template(engine: EngineProcess) -> Iterator[orlop.Template]:
    """A warm one, for all tests of a module: what one run does no other is to see."""
    with orlop.Template(
        engine=engine.url, memory="64m", pids=40, imports=["textwrap"], setup=SETUP
    ) as made:
        yield made


@pytest.fixture
def cgroups_before() -> set[Path]:
    return template_cgroups()
