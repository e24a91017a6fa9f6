"""A program that has used up its descriptors is told so, and loses none of them by it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess

#: Runs a command with ever fewer descriptors left, until there is none.
FEWER = """
import gc, os, resource, sys
import orlop
from orlop.errors import ExhaustedError

def is_open():
    found = [fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]
    return sorted(map(int, found))

options = {"engine": sys.argv[1], **eval(sys.argv[2])}
refused = 0
with orlop.Sandbox(**options) as box:
    ways = [box.run, orlop.Runner(engine=sys.argv[1]).run] if len(options) == 1 else [box.run]
    for run in ways:
        run(["true"])
        while len(is_open()) <= is_open()[-1]:  # none is free below the highest
            os.dup(0)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = is_open()
        for left in range(12):
            resource.setrlimit(resource.RLIMIT_NOFILE, (before[-1] + 1 + left, most))
            try:
                assert run(["cat"], input=b"x").stdout == b"x"
            except ExhaustedError as error:
                assert "ulimit -n" in str(error), error
                refused += 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            gc.collect()
            assert is_open() == before, (left, before, is_open())
        assert 0 < refused < 12 * len(ways), refused
"""


@pytest.mark.parametrize("options", [{}, {"command": ["sleep", "600"]}], ids=["quick", "usual"])
def test_too_few_descriptors_are_told(
    engine: EngineProcess, tmp_path: Path, options: dict[str, object]
) -> None:
    program = [sys.executable, "-c", FEWER, engine.url, repr(options)]
    ended = subprocess.run(program, cwd=tmp_path, check=False, capture_output=True, timeout=300)
    assert ended.returncode == 0, ended.stderr.decode()
