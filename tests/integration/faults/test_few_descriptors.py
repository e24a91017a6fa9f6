"""An engine that may open few files: clear errors, a short log, and it recovers."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess

_FEW = 64


@pytest.fixture
def engine(tmp_path: Path, busybox_archive: Path) -> Iterator[EngineProcess]:
    engine = EngineProcess(tmp_path, within=["prlimit", f"--nofile={_FEW}:{_FEW}", "--"])
    try:
        engine.start()
        engine.docker("load", "-i", str(busybox_archive))
        yield engine
    finally:
        engine.close()


def test_an_engine_of_few_open_files_refuses_containers_clearly_and_goes_on(
    engine: EngineProcess,
) -> None:
    names: list[str] = []
    while len(names) < _FEW:
        name = f"c{len(names)}"
        done = engine.docker(
            "run", "-d", "--name", name, "busybox:test", "sleep", "1000", check=False
        )
        if done.returncode != 0:
            break
        names.append(name)
    assert done.returncode == 125
    assert "open files" in done.stderr
    assert len(names) > 1
    with contextlib.ExitStack() as stack:
        for _ in range(2 * _FEW):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(engine.socket))
        engine.docker("ps")
    engine.docker("rm", "-f", *names)
    assert engine.out("run", "--rm", "busybox:test", "echo", "x") == "x"
    assert "Traceback" not in engine.log()
