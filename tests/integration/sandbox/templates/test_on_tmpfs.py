"""Templates of an engine whose run folder is in memory, as /run is on most hosts."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import orlop
from tests.integration.engines import EngineProcess


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="orlop-") as name:
        yield Path(name)


@pytest.fixture
def engine(folder: Path) -> Iterator[EngineProcess]:
    process = EngineProcess(folder)
    try:
        process.start()
        yield process
    finally:
        process.close()


def test_what_is_shown_of_the_machine_s_tmpfs_is_no_scratch(
    engine: EngineProcess, folder: Path
) -> None:
    (folder / "shown").mkdir()
    (folder / "shown" / "file").write_text("shown\n")
    mounts = [f"{folder}/shown:/shown:ro", f"{folder}/shown/file:/one"]
    with orlop.Template(engine=engine.url, mounts=mounts) as template:
        code = "for path in ('/etc/hostname', '/shown/file', '/one'): print(open(path).read())"
        said = template.run(code)
        assert said.stdout.split() == [template.id[:12].encode(), b"shown", b"shown"], said
        assert template.run("open('/tmp/x', 'x')").exit_code == 0
        assert template.run("open('/tmp/x', 'x')").exit_code == 0  # of its own for each
