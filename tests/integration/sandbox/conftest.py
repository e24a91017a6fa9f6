"""Sandboxes of a real engine, asked by either face."""

from collections.abc import Callable, Iterator

import pytest

import orlop
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import Asynchronous, Blocking, Face


@pytest.fixture(params=[Blocking, Asynchronous], ids=["blocking", "async"])
def face(request: pytest.FixtureRequest, engine: EngineProcess) -> Iterator[Callable[..., Face]]:
    """What makes a started sandbox of one of the two classes; all are closed at the end."""
    made: list[Face] = []

    def make(**options: object) -> Face:
        made.append(request.param(engine=engine.url, **options))
        return made[-1]

    yield make
    for box in made:
        box.close()


@pytest.fixture
def box(face: Callable[..., Face]) -> Face:
    return face(memory="256m", pids=100)


@pytest.fixture
def engine_box(engine: EngineProcess) -> Iterator[orlop.Sandbox]:
    with orlop.Sandbox(engine=engine.url) as box:
        yield box
