"""What the engine says of what protects containers, and what this host lacks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.runtime.cgroups.layout import detect
from tests.integration.engines import EngineProcess

#: In a mount namespace of its own, where the library that $0 is cannot be loaded.
_WITHOUT = 'mount --bind /dev/null "$(readlink -f "$0")" && exec "$@"'


@pytest.fixture(params=[True, False], ids=["with libseccomp", "without"])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[bool, EngineProcess]]:
    library = next(Path("/usr/lib").glob("*/libseccomp.so.2"))
    without = ("unshare", "--mount", "sh", "-c", _WITHOUT, str(library))
    engine = EngineProcess(tmp_path, within=() if request.param else without)
    try:
        engine.start()
        yield request.param, engine
    finally:
        engine.close()


def test_info_says_whether_containers_have_a_seccomp_policy(
    told: tuple[bool, EngineProcess],
) -> None:
    is_there, engine = told
    answer = json.loads(_info(engine, "--format", "json"))
    protections = {one["Name"]: one for one in answer["Protections"]}
    assert protections["seccomp"]["State"] == ("on" if is_there else "missing")
    assert is_there or "libseccomp2" in protections["seccomp"]["Detail"]
    (row,) = (line.split() for line in _info(engine).splitlines() if line.startswith("seccomp "))
    assert row[1] == protections["seccomp"]["State"]


def test_info_says_which_cgroup_controllers_this_host_has(engine: EngineProcess) -> None:
    answer = json.loads(_info(engine, "--format", "json"))
    (limits,) = (one for one in answer["Protections"] if one["Name"] == "limits")
    wanted = {"cpu", "cpuset", "memory", "pids"}
    assert (limits["State"] == "on") == (wanted <= detect().controllers)


def _info(engine: EngineProcess, *words: str) -> str:
    command = [sys.executable, "-P", "-m", "orlop", "info", *words]
    done = subprocess.run(
        command, env=engine.environment(), capture_output=True, text=True, check=True
    )
    return done.stdout
