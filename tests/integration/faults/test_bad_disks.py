"""A disk that is full, or cannot be written: one sentence, and the engine goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess
from tests.integration.faults.clients import PROGRAMS, run
from tests.integration.faults.disks import engine_on
from tests.integration.images import samples

CLIENTS = sorted(PROGRAMS)
_SIZE_MIB = 24


@pytest.mark.parametrize("client", CLIENTS)
def test_a_full_disk_is_said_and_what_was_there_stays(
    tmp_path: Path, client: str, busybox_archive: Path
) -> None:
    with engine_on(tmp_path, f"mount -t tmpfs -o size={_SIZE_MIB}m none {{root}}") as engine:
        engine.docker("load", "-i", str(busybox_archive))
        engine.docker("run", "--name", "before", "busybox:test", "true")
        big = tmp_path / "big.tar"
        big.write_bytes(samples.tar_of({"big": os.urandom(2 * _SIZE_MIB << 20)}))
        blobs = engine.inside("find", str(engine.root / "content"), "-type", "f")
        failed = run(engine, client, "import", str(big), "big:1")
        assert failed.code == 1
        assert "space" in failed.error, failed
        engine.docker("system", "prune", "-f", "--filter", "label=none")
        assert engine.inside("find", str(engine.root / "content"), "-type", "f") == blobs
        assert engine.out("images", "-q", "big") == ""
        engine.inside("sh", "-c", f"cat /dev/zero > {engine.root}/filler || true")
        failed = run(engine, client, "commit", "before", "after:1")
        assert failed.code == 1
        assert "space" in failed.error, failed
        assert engine.out("images", "-q", "after") == ""
        engine.inside("rm", f"{engine.root}/filler")
        engine.docker("run", "--rm", "busybox:test", "true")
        engine.docker("start", "-a", "before")


@pytest.mark.parametrize("folder", ["containers", "snapshots"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_disk_that_turns_read_only_is_said(tmp_path: Path, client: str, folder: str) -> None:
    with engine_on(tmp_path, "mount -t tmpfs none {root}") as engine:
        engine.docker("run", "--rm", "host", "true")
        place = str(engine.root / folder)
        engine.inside("mount", "--bind", place, place)
        engine.inside("mount", "-o", "remount,bind,ro", place)
        failed = run(engine, client, "run", "--rm", "host", "true")
        assert failed.code == 125
        assert "read-only" in failed.error.lower(), failed
        assert engine.out("ps", "-aq") == ""
        engine.inside("umount", place)
        engine.docker("run", "--rm", "host", "true")


def test_an_engine_on_a_read_only_disk_says_why_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    engine = EngineProcess(tmp_path)
    script = f'mount -t tmpfs -o ro none {engine.root} && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-m", "orlop.programs.engine"],
        env=engine.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "read-only" in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(engine.root) == []
