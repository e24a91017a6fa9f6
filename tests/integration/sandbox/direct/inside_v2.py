"""Quick sandboxes where v2 has every controller: tests/integration/cgroups runs this in a machine.

That a sandbox has started by a recipe, and not as other containers, is what `direct` looks at.
"""

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import orlop
from orlop.client.direct import connections
from orlop.errors import ExhaustedError
from orlop.runtime.cgroups.layout import detect
from orlop.sandbox.ways.direct import start_message
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.direct.ways import IMAGE, Given, Once, direct, run, shell
from tests.integration.sandbox.faces import wait_until

_ORLOP = Path("/sys/fs/cgroup/orlop")
_LIMITS: dict[str, Any] = {"memory": "64m", "pids": 20, "cpus": 0.5}
_MIB = 1 << 20
_DISK = (1, 0)  # /dev/ram0

Options = Callable[..., Given]


def _fill(megabytes: int) -> list[str]:
    """Return a command that has so much memory at once."""
    return ["dd", "if=/dev/zero", "of=/dev/null", f"bs={megabytes}M", "count=1"]


def _group(engine: EngineProcess, container_id: str) -> Path:
    pid = engine.out("inspect", "-f", "{{.State.Pid}}", container_id)
    return Path("/sys/fs/cgroup" + Path(f"/proc/{pid}/cgroup").read_text().strip()[3:])


def _groups() -> list[Path]:
    return [*_ORLOP.glob(".pool-*")]


@pytest.fixture
def ram_disk(tmp_path: Path) -> Iterator[Path]:
    node = tmp_path / "disk"
    os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(*_DISK))
    yield node
    node.unlink()


def test_this_host_is_as_most_are() -> None:
    assert detect().mode == "v2"
    assert {"cpu", "memory", "pids", "io"} <= detect().controllers


def test_limits_are_in_force(engine: EngineProcess, given: Options) -> None:
    with direct(given(**_LIMITS)) as box:
        group = _group(engine, box.id)
        read = [
            (group / name).read_text().strip() for name in ("memory.max", "pids.max", "cpu.max")
        ]
        assert read == [str(64 * _MIB), "20", "50000 100000"]
        crowded = run(box, "sh", "-c", "for i in $(seq 50); do sleep 100 & done")
        assert b"can't fork" in crowded.stderr
        assert int((group / "pids.current").read_text()) == 19  # without the shell
    with direct(given(**_LIMITS)) as box:
        assert _group(engine, box.id) == group  # as good as new
        assert int((group / "pids.current").read_text()) == 1


@pytest.fixture
def nowhere() -> Iterator[list[int]]:
    """Streams that lead nowhere."""
    reader, writer = os.pipe()
    yield [reader, writer, writer]
    os.close(reader)
    os.close(writer)


def test_who_uses_up_its_memory_is_killed_and_that_is_told(
    given: Options, nowhere: list[int]
) -> None:
    options = given(memory="64m")
    for megabytes, told in ((200, (9, True)), (10, (0, False)), (200, (9, True))):
        with connections(options.settings()).lent() as connection:
            made = connection.request({**start_message(options), "args": _fill(megabytes)}, nowhere)
            ended = connection.exit_of(made["id"])
        assert (ended["signal"], ended["oom"]) == told
    with direct(options) as box:
        assert run(box, *_fill(200)).exit_code == 137
        assert shell(box, "echo on") == "on\n"


def test_what_was_used_is_each_one_s_own(
    engine: EngineProcess, given: Options, ram_disk: Path
) -> None:
    device = {"PathOnHost": str(ram_disk), "PathInContainer": "/dev/disk", "CgroupPermissions": "r"}
    options = given(memory="96m", more={"HostConfig": {"Devices": [device]}})
    used, groups = [], set()
    for megabytes in (60, 20, 40):
        with direct(options) as box:
            groups.add(_group(engine, box.id))
            done = run(box, *_fill(megabytes))
            assert done.usage.cpu_s > 0
            assert box.usage().read_bytes == 0
            read = run(box, "dd", "if=/dev/disk", "of=/dev/null", "bs=1M", "count=2")
            assert read.exit_code == 0, read
            used.append(box.usage())
            _forget_pages()
    assert len(groups) == 1
    for megabytes, usage in zip((60, 20, 40), used, strict=True):
        assert megabytes * _MIB < usage.peak_memory_bytes < (megabytes + 18) * _MIB
        assert usage.read_bytes >= 2 * _MIB


def _forget_pages() -> None:
    """What is in memory is not read again."""
    Path("/proc/sys/vm/drop_caches").write_text("1")


def test_forks_are_limited_as_what_they_are_of(engine: EngineProcess, given: Options) -> None:
    with orlop.Sandbox(engine=engine.url, image=IMAGE, **_LIMITS) as box:
        box.run(["sh", "-c", "echo kept > /tmp/file"])
        for fork in box.fork(2):
            with fork:
                assert fork.run(["cat", "/tmp/file"]).stdout == b"kept\n"
                limit = _group(engine, fork.id) / "memory.max"
                assert limit.read_text() == f"{64 * _MIB}\n"
                assert fork.run(_fill(200)).exit_code == 137
        assert box.run(["cat", "/tmp/file"]).stdout == b"kept\n"


def test_what_is_written_from_outside_is_within_the_limit(engine: EngineProcess) -> None:
    with orlop.Sandbox(engine=engine.url, image=IMAGE, **_LIMITS) as box:
        box.run(["dd", "if=/dev/zero", "of=/srv", "bs=1M", "count=20"])
        box.files.write("/tmp/file", bytes(20 * _MIB))
        with pytest.raises(ExhaustedError, match="64 MiB in all"):
            box.files.write("/tmp/more", bytes(30 * _MIB))
        assert box.run(["ls", "/tmp"]).stdout == b"file\n"


def test_limits_that_were_changed_are_nobody_else_s(engine: EngineProcess, given: Options) -> None:
    with direct(given(**_LIMITS)) as box:
        group = _group(engine, box.id)
        engine.docker("update", "--memory", "80m", "--memory-swap", "80m", box.id)
        assert (group / "memory.max").read_text() == f"{80 * _MIB}\n"
    wait_until(lambda: not group.exists(), "it is kept")
    with direct(given(**_LIMITS)) as box:
        assert (_group(engine, box.id) / "memory.max").read_text() == f"{64 * _MIB}\n"


def test_pool_and_template(engine: EngineProcess) -> None:
    with orlop.Pool(engine=engine.url, image=IMAGE, size=2, **_LIMITS) as pool:
        pool.fill(timeout=120)
        with pool.take() as box:
            assert box.run(["echo", "on"]).stdout == b"on\n"
            assert _group(engine, box.id).name.startswith(".pool-")
    limits = {**_LIMITS, "memory": "100m"}
    with orlop.Template(engine=engine.url, setup="x = 6 * 7", **limits) as template:
        assert template.run("print(x)").stdout == b"42\n"
        assert template.run("x = bytearray(300 << 20)").exit_code == 137
        forks = template.run("import os\nwhile True: os.fork()", timeout=60)
        assert b"BlockingIOError" in forks.stderr
        wait_until(lambda: _limits_of_runs() == {"20\n"}, "no run waits")
    wait_until(lambda: not [*_ORLOP.glob("template-*")], "cgroups of it are left")


def _limits_of_runs() -> set[str]:
    found = set()
    for limit in _ORLOP.glob("template-*/[0-9]*/pids.max"):
        with contextlib.suppress(OSError):  # it is just being removed
            found.add(limit.read_text())
    return found


def test_two_hundred_leave_nothing(engine: EngineProcess, given: Options) -> None:
    options = given(**_LIMITS)
    with direct(options) as box:
        shell(box, "echo on")
    before = _left(engine)
    for number in range(200):
        if number % 4:
            assert run(Once(options), "echo", "on").stdout == b"on\n"
        else:
            with direct(options) as box:
                shell(box, "busybox setsid sleep 1000 & mkdir /tmp/x; echo on")
    wait_until(lambda: _left(engine) == before, f"{_left(engine)} in place of {before}")
    with engine.shim() as shim:
        ready, *_ = shim.call({"op": "counts"})["ok"]["pools"]["recycled_cgroups"]
    assert ready == len(_groups())


def _left(engine: EngineProcess) -> dict[str, int]:
    """Count what there is of the shim's, and for each of its cgroups what is in it."""
    with engine.shim() as shim:
        pid = shim.call({"op": "hello"})["ok"]["pid"]
    places = [place for group in _groups() for place in (group, *group.rglob("*/"))]
    tree = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {
        "cgroups": len(places),
        "inhabited": sum(bool((place / "cgroup.procs").read_text()) for place in places),
        "children": len([child for child in tree if _is_alive(child)]),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "frozen": sum((place / "cgroup.freeze").read_text() != "0\n" for place in places),
    }


def _is_alive(pid: str) -> bool:
    try:
        return not re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.M)
    except FileNotFoundError:
        return False
