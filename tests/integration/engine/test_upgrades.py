"""An engine of another version comes: what holds the containers is replaced, or told of."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import orlop
from orlop.shim.build import BUILD
from orlop.shim.client import Client
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


WAITS = "while [ ! -e /tmp/go ]; do echo $((n+=1)); sleep 0.02; done; exit 7"


def holding(newer: EngineProcess) -> tuple[dict[str, object], dict[str, object]]:
    """Return what the shim, and the stdio process, say of themselves."""
    with newer.shim() as shim, contextlib.closing(Client(str(newer.run / "stdio.sock"))) as stdio:
        return shim.call({"op": "hello"})["ok"], stdio.call({"op": "hello"})["ok"]


def test_a_shim_goes_on_as_one_of_the_new_version_and_loses_no_container(
    older: Older, newer: EngineProcess
) -> None:
    command = CommandLine(newer.environment())
    command.out("run", "-d", "--name", "kept", "host", "sh", "-c", WAITS)
    pid = int(command.out("inspect", "-f", "{{.State.Pid}}", "kept"))
    shim, stdio = holding(newer)
    assert _OLD in str(shim["build"])
    older.stop()
    newer.start()
    assert warnings_of(newer) == []
    renewed, pumping = holding(newer)
    assert renewed == {**shim, "build": BUILD}  # the same process
    assert pumping["build"] == BUILD
    assert pumping["pid"] != stdio["pid"]
    assert f"PPid:\t{shim['pid']}\n" in Path(f"/proc/{pid}/status").read_text()
    assert command.out("exec", "kept", "touch", "/tmp/go") == ""
    assert command.out("wait", "kept") == "7"
    lines = command.out("logs", "kept").splitlines()
    assert lines == [str(number + 1) for number in range(len(lines))]
    assert command.out("run", "--rm", "host", "echo", "another") == "another"


def test_who_is_attached_stays_attached_while_the_shim_is_renewed(
    older: Older, newer: EngineProcess
) -> None:
    command = CommandLine(newer.environment())
    with command.start("run", "-i", "--name", "kept", "host", "cat") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"before\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"before\n"
        older.stop()
        newer.start()
        assert build_of(newer) == BUILD
        process.stdin.write(b"after\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"after\n"
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_shim_that_holds_a_sandbox_stays_and_info_tells(
    older: Older, newer: EngineProcess
) -> None:
    with orlop.Sandbox(engine=older.url) as box:
        older.stop()
        newer.start()
        assert _OLD in build_of(newer)
        (told,) = warnings_of(newer)
        assert f"is of {build_of(newer)}, not of {BUILD}" in told
        assert box.run(["echo", "alive"]).stdout == b"alive\n"
    newer.stop()
    newer.start()
    assert build_of(newer) == BUILD
