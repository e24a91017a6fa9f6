"""What a sandbox mounts on a host whose mounts are all shared, as systemd's are, stays inside."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import orlop
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.direct.conftest import serving
from tests.integration.sandbox.direct.ways import HOST, IMAGE


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    shared = ("unshare", "--mount", "--propagation", "shared")
    with serving(tmp_path_factory.mktemp("e"), within=shared) as process:
        yield process


def test_a_mount_over_what_is_the_hosts_does_not_reach_it(engine: EngineProcess) -> None:
    assert engine.process is not None
    mounts = Path(f"/proc/{engine.process.pid}/mountinfo")
    with orlop.Sandbox(image=IMAGE, engine=engine.url, mounts=HOST, cap_add=["SYS_ADMIN"]) as box:
        before = mounts.read_text()
        assert "shared:" in before
        script = (
            "for d in /sys/fs/cgroup/*/ /sys /proc /usr; do mount -t tmpfs none $d || exit; done"
        )
        ran = box.run(["sh", "-c", script])
        assert ran.exit_code == 0, ran
        assert b"shared:" not in box.run(["cat", "/proc/self/mountinfo"]).stdout
        assert mounts.read_text() == before
