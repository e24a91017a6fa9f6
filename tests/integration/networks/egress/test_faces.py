"""Lists as users give them: to a sandbox, and to the command line."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import orlop
from orlop.errors import InvalidArgumentError
from tests.integration.engines import EngineProcess
from tests.integration.networks.egress.world import ADDRESS, CLIENT, OTHER

_LISTED = [f"{ADDRESS}:7000", "udp:203.0.113.0/24:7001"]
_WANTED = [f"tcp/{ADDRESS}/7000", f"udp/{ADDRESS}/7001", f"tcp/{ADDRESS}/7001", f"tcp/{OTHER}/7000"]
_EXPECTED = ["open", "open", "refused", "refused"]


@pytest.fixture
def running(outside: object, tmp_path: Path) -> Iterator[EngineProcess]:
    del outside
    engine = EngineProcess(tmp_path)
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


def test_a_sandbox_sends_where_its_list_says(running: EngineProcess) -> None:
    with orlop.Sandbox(engine=running.url, network="bridge", egress=_LISTED) as box:
        result = box.run(["python3", "-c", CLIENT, *_WANTED], timeout=120)
        assert json.loads(result.stdout) == _EXPECTED
    with orlop.Sandbox(engine=running.url, network="bridge", egress=()) as box:
        result = box.run(["python3", "-c", CLIENT, *_WANTED[:1]], timeout=120)
        assert json.loads(result.stdout) == ["refused"]
    for options in ({"network": "none"}, {"network": "bridge", "egress": "pypi.org:443"}):
        with pytest.raises(InvalidArgumentError, match="egress"):
            orlop.Sandbox(engine=running.url, **{"egress": (), **options})  # type: ignore[arg-type] # on purpose


def test_the_command_line_takes_a_list_and_shows_it(running: EngineProcess) -> None:
    lists = [word for text in _LISTED for word in ("--egress", text)]
    client = ["host", "python3", "-c", CLIENT]
    assert json.loads(_orlop(running, "run", "--rm", *lists, *client, *_WANTED)) == _EXPECTED
    _orlop(running, "create", "--name", "some", *lists, "host", "true")
    _orlop(running, "create", "--name", "none", "--egress", "none", "host", "true")
    _orlop(running, "create", "--name", "free", "host", "true")
    shown = json.loads(_orlop(running, "inspect", "some", "none", "free"))
    assert [one["HostConfig"]["Egress"] for one in shown] == [_LISTED, [], None]


def _orlop(engine: EngineProcess, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "orlop", *words],
        env=engine.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + engine.log()[-2000:]
    return done.stdout
