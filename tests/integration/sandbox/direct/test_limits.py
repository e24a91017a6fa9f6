"""A cgroup is used again with the limits that it was made with: who may change them is its last."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.engines import EngineProcess
from tests.integration.sandbox.direct.ways import HOST, Given, Once, direct, run, shell

#: Lifts the limit on processes, by a mount of its own of the cgroup that it is in.
_LIFT = """
import ctypes, os, sys
if sys.argv[1:]:
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS | os.CLONE_NEWCGROUP)
    open("/proc/self/uid_map", "w").write("0 0 1")
mount = ctypes.CDLL(None).mount
os.mkdir("/tmp/c")
mount(b"", b"/", None, 0x44000, None)
if mount(b"x", b"/tmp/c", b"cgroup2", 0, None) or not os.path.exists("/tmp/c/pids.max"):
    assert not mount(b"x", b"/tmp/c", b"cgroup", 0, b"pids")
open("/tmp/c/pids.max", "w").write("max")
print(open("/tmp/c/pids.max").read())
"""
_POWERFUL: dict[str, dict[str, Any]] = {
    "capability": {"CapAdd": ["SYS_ADMIN"]},
    "no filter": {"SecurityOpt": ["seccomp=unconfined"]},
}


def _limit(pid: str) -> str:
    """Return the limit on processes that the process has."""
    lines = Path(f"/proc/{pid}/cgroup").read_text()
    (path,) = re.findall(r"^\d+:pids:(.*)$", lines, re.M) or re.findall(r"^0::(.*)$", lines, re.M)
    places = (Path(f"/sys/fs/cgroup/{part}{path}/pids.max") for part in ("", "pids"))
    return next(place.read_text().strip() for place in places if place.exists())


def _pid(engine: EngineProcess, container_id: str) -> str:
    return engine.out("inspect", "-f", "{{.State.Pid}}", container_id)


@pytest.mark.parametrize("more", _POWERFUL.values(), ids=_POWERFUL)
def test_limits_that_a_program_has_lifted_are_the_next_one_s(
    engine: EngineProcess, given: Callable[..., Given], more: dict[str, Any]
) -> None:
    options = given(more={"HostConfig": more}, mounts=HOST)
    namespaces = [] if "CapAdd" in more else ["of its own"]
    lifted = run(Once(options), "/usr/bin/python3", "-c", _LIFT, *namespaces)
    assert lifted.stdout == b"max\n\n", lifted
    for _ in range(3):
        with direct(options) as box:
            assert _limit(_pid(engine, box.id)) == "64"


def test_who_may_change_his_cgroup_is_not_shown_it_sealed(given: Callable[..., Given]) -> None:
    writable = given(more={"HostConfig": {"SecurityOpt": ["writable-cgroups=true"]}})
    with pytest.raises(AssertionError), direct(writable):
        pass
    with direct(given()) as box:
        assert "/sys/fs/cgroup" in shell(box, "grep cgroup /proc/mounts")
