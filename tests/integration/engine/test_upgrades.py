"""An engine of another version comes: what holds the containers is replaced, or told of."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import orlop
from orlop.shim.build import BUILD
from tests.integration.cli.conftest import CommandLine
from tests.integration.engines import EngineProcess

_OLD = "0.0.9"


class Older(EngineProcess):
    """An engine of the same folders as *newer*, of an older version of the package."""

    def __init__(self, newer: EngineProcess, package: Path) -> None:
        super().__init__(newer.root.parent)
        self._package = package

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(self._package.parent)}


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[EngineProcess]:
    engine = EngineProcess(tmp_path)
    yield engine
    engine.close()


@pytest.fixture
def older(newer: EngineProcess, tmp_path: Path) -> Iterator[Older]:
    package = tmp_path / "old" / "orlop"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(orlop.__file__).parent, package, ignore=ignored)
    start = package / "__init__.py"
    start.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{_OLD}"', start.read_text()))
    engine = Older(newer, package)
    engine.start()
    yield engine
    if engine.process is not None and engine.process.poll() is None:
        engine.stop()


def build_of(engine: EngineProcess) -> str:
    with engine.shim() as shim:
        return str(shim.call({"op": "hello"})["ok"]["build"])


def warnings_of(engine: EngineProcess) -> list[str]:
    shown = CommandLine(engine.environment()).out("info", "-f", "{{json .Warnings}}")
    return [line for line in shown.split('"') if "the shim" in line]


def test_a_shim_that_holds_nothing_is_replaced_after_an_upgrade(
    older: Older, newer: EngineProcess
) -> None:
    assert _OLD in build_of(older)
    assert warnings_of(older) == []
    older.stop()
    newer.start()
    assert build_of(newer) == BUILD
    assert warnings_of(newer) == []


def test_a_shim_that_holds_a_container_stays_and_info_tells(
    older: Older, newer: EngineProcess
) -> None:
    command = CommandLine(older.environment())
    command.out("run", "-d", "--name", "kept", "host", "sleep", "600")
    older.stop()
    newer.start()
    assert _OLD in build_of(newer)
    (told,) = warnings_of(newer)
    assert f"is of {build_of(newer)}, not of {BUILD}" in told
    assert CommandLine(newer.environment()).out("exec", "kept", "echo", "alive") == "alive"
    CommandLine(newer.environment()).out("rm", "-f", "kept")
    newer.stop()
    newer.start()
    assert build_of(newer) == BUILD
