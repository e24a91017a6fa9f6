"""Templates of a real engine."""

from collections.abc import Iterator

import pytest

import orlop
from tests.integration.engines import EngineProcess

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
