"""An engine with a small image that has users of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import crafting
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.direct.ways import IMAGE, Given


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with serving(tmp_path_factory.mktemp("e")) as process:
        yield process


@contextmanager
def serving(folder: Path, *, within: Sequence[str] = ()) -> Iterator[EngineProcess]:
    """An engine that has the image; *within* as EngineProcess has it."""
    process = EngineProcess(folder, within=within)
    try:
        process.start()
        load(process, folder / "small.tar", IMAGE)
        yield process
    finally:
        process.close()


def load(engine: EngineProcess, path: Path, name: str, *more: bytes, **config: Any) -> None:
    """Load an image of busybox, with *more* layers."""
    layers = [crafting.layer(crafting.busybox), *more]
    crafting.docker_archive(path, name, layers, config)
    engine.docker("load", "-i", str(path))


@pytest.fixture
def given(engine: EngineProcess) -> Callable[..., Given]:
    """What makes options for the engine."""

    def make(**options: Any) -> Given:
        return Given(
            **{"image": IMAGE, "memory": "128m", "pids": 64, "engine": engine.url, **options}
        )

    return make
