"""Quick sandboxes of an engine that sees cgroup v2 alone.

Beside v1 the v2 hierarchy has no controllers to limit by: what limits do is seen in a virtual
machine (tests/integration/cgroups/inside_v2.py).
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import orlop
from orlop.client.client import Client
from orlop.errors import OrlopError
from orlop.runtime.cgroups.layout import detect
from orlop.sandbox.way import Command
from tests.integration.cgroups.alone import v2_alone
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.direct.conftest import serving
from tests.integration.sandbox.direct.ways import (
    HOST,
    IMAGE,
    Given,
    differences,
    direct,
    look,
    run,
    shell,
    usual,
)
from tests.integration.sandbox.faces import ids, wait_until
from tests.integration.sandbox.templates.machine import cgroups, tokens

_UNIFIED = detect().unified
pytestmark = pytest.mark.skipif(_UNIFIED is None, reason="needs a cgroup v2 hierarchy")
_LEAVE = "busybox setsid sleep 1000 & mkdir -p /tmp/x; echo left"
_BURN = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with serving(tmp_path_factory.mktemp("v2"), within=v2_alone()) as process:
        yield process
        shim = _shim(process)
    assert _groups(shim) == []


@pytest.fixture
def options(engine: EngineProcess) -> Given:
    return Given(image=IMAGE, pids=-1, engine=engine.url)


def _shim(engine: EngineProcess) -> int:
    with engine.shim() as asked:
        return int(asked.call({"op": "hello"})["ok"]["pid"])


def _groups(shim: int) -> list[Path]:
    assert _UNIFIED is not None
    return [*Path(_UNIFIED.mountpoint, "orlop").glob(f".pool-{shim}-*")]


def _group(engine: EngineProcess, container_id: str) -> Path:
    """Return the cgroup that a sandbox has on loan."""
    assert _UNIFIED is not None
    pid = engine.out("inspect", "-f", "{{.State.Pid}}", container_id)
    (line,) = (x for x in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if x[:2] == "0:")
    return Path(_UNIFIED.mountpoint + line.removeprefix("0::"))


def _members_below(group: Path) -> list[str]:
    """Return who is in a group of a command's."""
    found = []
    for file in group.glob("*/cgroup.procs"):
        with contextlib.suppress(FileNotFoundError):
            found += file.read_text().split()
    return found


def test_what_a_program_finds_is_the_same_by_either_way(options: Given) -> None:
    whole = Given(image=IMAGE, pids=-1, engine=options.engine, mounts=HOST)
    with direct(whole) as quick, usual(whole) as slow:
        assert differences(look(quick), look(slow)) == []
        for box in (quick, slow):  # of the machine's hierarchy it sees its own cgroup
            assert shell(box, "cat /sys/fs/cgroup/cgroup.procs").split()[0] == "1"
            assert shell(box, "cat /proc/1/cgroup").splitlines()[-1] == "0::/"
            assert run(box, "mkdir", "/sys/fs/cgroup/x").exit_code == 1


def test_one_cgroup_serves_one_after_the_other(engine: EngineProcess, options: Given) -> None:
    groups, burnt_s = set(), 1e9
    for turn in range(12):
        with direct(options) as box:
            groups.add(group := _group(engine, box.id))
            assert box.usage().cpu_s < burnt_s / 2  # others' is not counted
            assert _told_cpu_s(options, box.id) < burnt_s / 2
            assert shell(box, "ls /tmp; ps | grep -c [s]leep || true") == "0\n"
            assert shell(box, _LEAVE) == "left\n"
            if turn == 0:
                shell(box, _BURN)
                burnt_s = box.usage().cpu_s
            if turn % 4 == 1:
                box.exec(Command(words=["sleep", "1000"])).close()
            if turn % 4 == 3:
                engine.docker("pause", box.id)
                assert (group / "cgroup.freeze").read_text() == "1\n"
    assert len(groups) == 1
    assert group in _groups(_shim(engine))


def _told_cpu_s(options: Given, container_id: str) -> float:
    with Client(options.settings()) as client:
        (told,) = client.containers.stats(container_id, stream=False, one_shot=True)
    return float(told["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def test_command_is_killed_with_all_it_has_started(engine: EngineProcess) -> None:
    with orlop.Sandbox(image=IMAGE, pids=-1, engine=engine.url) as box:
        group = _group(engine, box.id)
        late = box.run(["sh", "-c", "busybox setsid sleep 999 & sleep 999"], timeout=0.5)
        assert late.timed_out
        wait_until(lambda: b"999" not in box.run(["ps", "-o", "args"]).stdout, "it runs on")
        assert box.run(["sh", "-c", _BURN]).usage.cpu_s > 0.01
        wait_until(lambda: not _members_below(group), "somebody is left")


def test_verbs_of_other_containers_know_it(engine: EngineProcess) -> None:
    with orlop.Sandbox(image=IMAGE, pids=-1, engine=engine.url) as box:
        box.run(["sh", "-c", "echo kept > /tmp/file"])
        assert box.id[:12] in engine.out("stats", "--no-stream", "--format", "{{.ID}}")
        assert engine.out("exec", box.id, "cat", "/tmp/file") == "kept"
        for fork in box.fork(2):
            with fork:
                assert fork.run(["cat", "/tmp/file"]).stdout == b"kept\n"
        box.pause()
        box.resume()
        assert box.run(["cat", "/tmp/file"]).stdout == b"kept\n"


def test_sandbox_is_adopted_after_its_engine_was_killed(
    engine: EngineProcess, options: Given
) -> None:
    with direct(options) as box:
        group = _group(engine, box.id)
        engine.stop(signal.SIGKILL)
        engine.start()
        assert engine.out("exec", box.id, "echo", "on") == "on"
        assert _group(engine, box.id) == group
        engine.docker("kill", box.id)
        wait_until(lambda: box.id not in ids(engine), "it does not end")
    wait_until(lambda: not group.exists(), "its cgroup is left")  # the recipe was the other's


def test_what_a_killed_shim_has_left_is_swept_by_the_next(
    engine: EngineProcess, options: Given
) -> None:
    with direct(options) as box:
        shell(box, _LEAVE)
        first = _shim(engine)
        assert _groups(first)
        os.kill(first, signal.SIGKILL)
        with contextlib.suppress(OrlopError):
            box.close()
    wait_until(lambda: _starts(options), "no sandbox starts any more")
    assert _shim(engine) != first
    wait_until(lambda: not _groups(first), "cgroups are left")


def _starts(options: Given) -> bool:
    with contextlib.suppress(OrlopError), direct(options) as box:
        return shell(box, "echo on") == "on\n"
    return False


def test_template_runs_and_leaves_nothing(engine: EngineProcess) -> None:
    with orlop.Template(engine=engine.url, pids=-1, setup="x = 6 * 7") as template:
        assert template.run("print(x)").stdout == b"42\n"
        assert template.run("import time; time.sleep(600)", timeout=0.5).timed_out
        names = tokens(engine)
        assert cgroups(names)
    wait_until(lambda: not cgroups(names), "cgroups of it are left")
