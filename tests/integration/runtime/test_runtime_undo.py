"""A start that fails at any step leaves nothing, and names the step."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import OrlopError, WrongStateError
from orlop.kernel.namespaces import Namespace
from orlop.kernel.process import clone, clone3
from orlop.kernel.procstat import is_ending
from orlop.runtime import cgroups, init, order
from orlop.runtime.bundle import Gate, Stdio
from orlop.runtime.child import Child, Step
from orlop.runtime.order import Fact
from orlop.runtime.parent import wait_created
from tests.integration.runtime.box import Box


def breaking(name: str, how: Callable[[], None]) -> Callable[[Child], None]:
    def step(child: Child) -> None:
        del child
        how()

    step.__name__ = name
    return step


def refuse() -> None:
    raise OSError(5, "the test refuses")


def die() -> None:
    os._exit(9)


CONTAINER = order.steps(Fact.OWN_MOUNTS | Fact.OWN_ROOT)
EXEC = order.steps(Fact.EXEC)


@pytest.mark.parametrize("name", CONTAINER)
def test_a_failed_step_is_named_and_leaves_nothing(
    box: Box, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = init.last_steps

    def steps(child: Child) -> list[Callable[[Child], None]]:
        return [breaking(name, refuse) if s.__name__ == name else s for s in plain(child)]

    monkeypatch.setattr(init, "last_steps", steps)
    before, others = len(os.listdir("/proc/self/fd")), children()
    with pytest.raises(OrlopError, match=f"{name.replace('_', ' ')}: the test refuses"):
        box.run("true")
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() <= others


@pytest.mark.parametrize("name", ["shield", "enter_root", "make_devices", "load_filter"])
def test_a_child_that_dies_at_a_step_leaves_nothing(
    box: Box, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = init.last_steps

    def steps(child: Child) -> list[Callable[[Child], None]]:
        return [breaking(name, die) if s.__name__ == name else s for s in plain(child)]

    monkeypatch.setattr(init, "last_steps", steps)
    before, others = len(os.listdir("/proc/self/fd")), children()
    with pytest.raises(OrlopError, match="ended before it could say why"):
        box.run("true")
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() <= others


@pytest.mark.parametrize("name", [*EXEC, "hide_stdio", "limit_capabilities"])
@pytest.mark.parametrize(
    ("how", "why"), [(refuse, "the test refuses"), (die, "ended before it could say why")]
)
def test_a_failed_step_of_exec_leaves_the_container_alone(
    box: Box, name: str, how: Callable[[], None], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = box.sleeping()

    def broken(plain: Callable[[Child], Sequence[Step]]) -> Callable[[Child], list[Step]]:
        return lambda child: [
            breaking(name, how) if step.__name__ == name else step for step in plain(child)
        ]

    before, others = len(os.listdir("/proc/self/fd")), children()
    with monkeypatch.context() as patch:
        for which in ("first_steps", "last_steps"):
            patch.setattr(init, which, broken(getattr(init, which)))
        with pytest.raises(OrlopError, match=why):
            box.exec(running, "true")
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() <= others
    assert box.exec(running, "echo", "well").output == "well\n"


def test_a_bad_source_in_a_user_namespace_leaves_nothing(box: Box) -> None:
    mapping = [{"containerID": 0, "hostID": 200_000, "size": 65536}]
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = box.linux["gidMappings"] = mapping
    box.run("true")  # the mapping's own user namespace is kept
    box.mount("/x", "/no/such/source")
    before, others = len(os.listdir("/proc/self/fd")), children()
    with pytest.raises(OrlopError, match="/no/such/source"):
        box.run("true")
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() <= others


def test_maps_that_the_kernel_refuses_leave_nothing(box: Box) -> None:
    mapping = [{"containerID": 0, "hostID": 200_000, "size": 0}]
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = box.linux["gidMappings"] = mapping
    before, others = len(os.listdir("/proc/self/fd")), children()
    with pytest.raises(OrlopError):
        box.run("true")
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() <= others


def test_a_namespace_that_is_gone_leaves_nothing_and_us_where_we_were(box: Box) -> None:
    others = children()
    gone = clone3(Namespace.PID)
    if not gone.pid:
        signal.pause()
    namespace = os.open(f"/proc/{gone.pid}/ns/pid", os.O_RDONLY)
    os.kill(gone.pid, signal.SIGKILL)
    os.waitpid(gone.pid, 0)
    os.close(gone.pidfd)
    for entry in box.linux["namespaces"]:
        if entry["type"] == "pid":
            entry["path"] = f"/proc/self/fd/{namespace}"
    with pytest.raises(OrlopError, match="make process"):
        box.run("true")
    os.close(namespace)
    assert children() <= others
    assert os.readlink("/proc/self/ns/pid_for_children") == os.readlink("/proc/self/ns/pid")


def test_a_path_that_is_no_namespace_of_its_kind_is_named(box: Box) -> None:
    for path in ("/proc/self/ns/net", "/etc/passwd"):
        for entry in box.linux["namespaces"]:
            if entry["type"] == "pid":
                entry["path"] = path
        with pytest.raises(OrlopError, match=f"linux.namespaces: '{path}' is no pid namespace"):
            box.run("true")


def test_seccomp_comes_last_and_before_it_the_capabilities_where_it_may() -> None:
    plain, without = (order.steps(Fact.HOOKS | more) for more in (Fact(0), Fact.NO_NEW_PRIVILEGES))
    assert plain[-4:] == ("load_filter", "set_capabilities", "run_start_hooks", "run_program")
    assert without[-3:] == ("load_filter", "run_start_hooks", "run_program")


def test_a_parent_that_is_killed_takes_the_unfinished_child_along(box: Box) -> None:
    gate, never = os.pipe()
    reader, writer = os.pipe()
    parent = os.fork()
    if not parent:
        null = os.open(os.devnull, os.O_RDWR)
        starting = box.start(Stdio(null, null, null), gate=Gate(gate, never))
        wait_created(starting)
        os.write(writer, b"started" if starting.pid else b"")
        signal.pause()
    os.close(writer)
    assert os.read(reader, 100) == b"started"
    for fd in (reader, gate):
        os.close(fd)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    cgroup = cgroups.open(f"/orlop/{box.id}")
    deadline = time.monotonic() + 5
    while list(cgroup.pids()) and time.monotonic() < deadline:
        time.sleep(0.01)
    left = list(cgroup.pids())
    cgroup.kill()
    cgroup.remove()
    os.close(never)
    assert left == []


def children() -> set[int]:
    """Return our children, zombies too."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {int(pid) for pid in text.split()}


def test_exec_in_a_container_that_ends_meanwhile_says_so(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first process is not gone before we have reaped the others of its pid namespace."""
    running = box.sleeping()
    other = box.exec_in_background(running, "sleep", "600")

    def late(*args: Any, **more: Any) -> bool:
        os.kill(running.pid, signal.SIGKILL)
        while not is_ending(1):
            time.sleep(0.01)
        return clone(*args, **more)

    monkeypatch.setattr("orlop.runtime.joining.clone", late)
    with pytest.raises(WrongStateError, match="not running"):
        box.exec(running, "true")
    box.output_of(other)
