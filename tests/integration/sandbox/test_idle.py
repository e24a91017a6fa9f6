"""What a sandbox does that has no command of its own: nothing, whatever its limits are."""

from pathlib import Path

import pytest

import orlop
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import wait_until


@pytest.mark.parametrize("image", ["host", "busybox:test"])
def test_named_sandbox_stays_where_one_process_is_allowed(
    engine: EngineProcess, busybox_archive: Path, image: str
) -> None:
    engine.docker("load", "-i", str(busybox_archive))
    with orlop.Sandbox(engine=engine.url, image=image, pids=1, name="alone") as box:
        wait_until(
            lambda: box.run(["cat", "/proc/1/comm"]).stdout == b"sleep\n",
            "the first process has not seen that there can be no other",
        )
        assert box.run(["echo", "here"]).stdout == b"here\n"
        assert box.alive


def test_named_sandbox_takes_leave_of_orphans(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url, name="parent") as box:
        box.run(["sh", "-c", "(sh -c 'echo $$ >/tmp/orphan' &)"])
        wait_until(
            lambda: box.run(["sh", "-c", "! test -e /proc/$(cat /tmp/orphan)"]).exit_code == 0,
            "an orphan that has ended is there yet",
        )
