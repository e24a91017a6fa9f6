"""--network none touches nothing of the machine's network, and loads none of the code for it."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess


def _maps(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if "/" in line}


def _threads(pid: int) -> list[str]:
    return [
        Path(f"/proc/{pid}/task/{task}/comm").read_text()
        for task in os.listdir(f"/proc/{pid}/task")
    ]


@pytest.fixture
def own_engine(tmp_path: Path) -> Iterator[EngineProcess]:
    process = EngineProcess(tmp_path)
    try:
        process.start()
        yield process
    finally:
        process.close()


def test_an_engine_of_containers_without_network_has_no_network_thread(
    own_engine: EngineProcess, busybox_archive: Path
) -> None:
    engine = own_engine
    engine.docker("load", "-i", str(busybox_archive))
    name = engine.out("run", "-d", "--network", "none", "busybox:test", "sleep", "60")
    engine.docker("exec", name, "true")
    assert json.loads(engine.out("inspect", name))[0]["HostConfig"]["NetworkMode"] == "none"
    assert engine.process is not None
    assert not any("nftables" in path for path in _maps(engine.process.pid))
    assert not any("network" in name for name in _threads(engine.process.pid))
    assert not (engine.run / "network").exists()
    engine.docker("rm", "-f", name)
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert len(links.splitlines()) == 1
    engine.docker("run", "--rm", "busybox:test", "true")  # with the network, all of it is there
    assert any("nftables" in path for path in _maps(engine.process.pid))
    assert (engine.run / "network").exists()
