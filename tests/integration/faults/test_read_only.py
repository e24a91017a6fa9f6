"""An engine whose folders cannot be written: what runs is seen and ended, and nothing is lost."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess

#: Sees a folder read-only, which others may write: no open file of theirs is in the way.
_READ_ONLY = 'mount --bind {0} {0} && mount -o remount,bind,ro {0} && exec "$@"'


def _seen_read_only(folder: Path) -> list[str]:
    return ["unshare", "--mount", "sh", "-c", _READ_ONLY.format(folder), "sh"]


@pytest.fixture
def engine(tmp_path: Path, busybox_archive: Path) -> Iterator[EngineProcess]:
    """An engine that was ended, and three containers of it that run."""
    engine = EngineProcess(tmp_path)
    try:
        engine.start()
        engine.docker("load", "-i", str(busybox_archive))
        for name in ("one", "two", "three"):
            script = "trap 'exit 3' USR1; while :; do usleep 10000; done"
            engine.docker("run", "-d", "--name", name, "busybox:test", "sh", "-c", script)
        yield engine
    finally:
        engine._within = []
        engine.close()


def _states(engine: EngineProcess) -> list[str]:
    words = ("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one", "two", "three")
    return engine.out(*words).splitlines()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_engine_starts_on_a_read_only_root_and_ends_containers(
    engine: EngineProcess, how: signal.Signals
) -> None:
    engine.stop(how)
    engine._within = _seen_read_only(engine.root)
    engine.start()
    assert "is read-only" in engine.out("info", "-f", "{{.Warnings}}")
    assert _states(engine) == ["running 0"] * 3
    assert engine.out("exec", "one", "echo", "x") == "x"
    engine.docker("kill", "one")
    engine.docker("stop", "-t", "0", "two")
    engine.docker("kill", "-s", "USR1", "three")
    engine.docker("wait", "three")
    assert _states(engine) == ["exited 137", "exited 137", "exited 3"]
    for words in (
        ("create", "busybox:test"),
        ("start", "one"),
        ("rm", "two"),
        ("rmi", "-f", "busybox:test"),
        ("volume", "create", "some"),
        ("network", "create", "some"),
        ("commit", "one", "made:1"),
    ):
        failed = engine.docker(*words, check=False)
        assert (failed.returncode, "disk is read-only" in failed.stderr) == (1, True), words
        assert "Errno" not in failed.stderr
    engine.docker("system", "prune", "-f")
    assert "Traceback" not in engine.log()
    engine.stop(how)
    engine._within = []
    engine.start()
    assert engine.out("info", "-f", "{{.Warnings}}") == "[]"
    assert _states(engine) == ["exited 137", "exited 137", "exited 3"]
    engine.docker("rm", "one", "two", "three")
    assert engine.out("run", "--rm", "busybox:test", "echo", "x") == "x"


@pytest.mark.parametrize("name", ["root", "run"])
def test_an_engine_without_a_folder_that_it_can_write_says_so(tmp_path: Path, name: str) -> None:
    engine = EngineProcess(tmp_path)
    folder = tmp_path / name
    folder.mkdir()
    command = [*_seen_read_only(folder), sys.executable, "-P", "-m", "orlop.programs.engine"]
    done = subprocess.run(
        command, env=engine.environment(), text=True, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"orlop engine: cannot use the folder {folder}: read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
