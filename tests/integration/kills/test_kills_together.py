"""Engine, shim and pump are killed together, or while containers end with nobody to see it."""

import contextlib
import os
import signal

import pytest

from tests.integration.engines import processes_of
from tests.integration.kills.remains import until
from tests.integration.kills.scene import COUNT, Scene, answering

_BROKEN_PIPE = 128 + signal.SIGPIPE
_UNKNOWN = 255


def _kill(scene: Scene, *names: str) -> None:
    """Kill processes as one: none sees the others go first."""
    assert scene.engine.process is not None
    pids = {
        "engine": scene.engine.process.pid,
        "shim": answering(scene, "shim.sock"),
        "pump": answering(scene, "stdio.sock"),
    }
    for name in names:
        os.kill(pids[name], signal.SIGSTOP)
    for name in names:
        os.kill(pids[name], signal.SIGKILL)
    if "engine" in names:
        scene.engine.process.wait(10)


@pytest.mark.parametrize("names", [("engine", "shim"), ("engine", "pump"), ("shim",), ("pump",)])
def test_containers_outlive_processes_that_die_together(
    scene: Scene, names: tuple[str, ...]
) -> None:
    scene.may_lose_lines = "pump" in names
    ref = scene.run(COUNT)
    _kill(scene, *names)
    scene.revive()
    scene.assert_alive(ref)
    scene.assert_counted(ref)
    scene.docker.ok("POST", f"/containers/{ref}/stop?t=5")
    assert scene.state(ref)["ExitCode"] == 43
    scene.nothing_left(f"{names} killed")


@pytest.mark.parametrize("names", [("engine",), ("engine", "shim"), ("shim",)])
def test_an_end_that_nobody_saw_has_its_true_status(scene: Scene, names: tuple[str, ...]) -> None:
    ref = scene.run("while [ ! -e /tmp/go ]; do sleep 0.02; done; echo last words; exit 7")
    gone = scene.run("while [ ! -e /tmp/go ]; do sleep 0.02; done", AutoRemove=True)
    pid = scene.state(ref)["Pid"]
    roots = [f"/proc/{scene.state(one)['Pid']}/root/tmp/go" for one in (ref, gone)]
    _kill(scene, *names)
    for path in roots:
        with open(path, "w"):
            pass
    until(lambda: not os.path.exists(f"/proc/{pid}/root/tmp"), "the end of the container")
    scene.revive()
    until(lambda: scene.state(ref)["Status"] == "exited", "the record of its end")
    assert scene.state(ref)["ExitCode"] == 7
    assert scene.lines(ref) == ["last words"]
    until(lambda: not scene.state(gone), "the removal of a container with --rm")
    scene.nothing_left(f"{names} killed, and containers ended")


def test_a_shim_is_replaced_though_the_next_are_killed_as_they_start(scene: Scene) -> None:
    ref = scene.run(COUNT)
    pump = answering(scene, "stdio.sock")
    said = scene.engine.log().count("the shim cannot be replaced")

    def kill_the_next() -> bool:
        for pid in set(processes_of(scene.engine.run)) - {pump}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return scene.engine.log().count("the shim cannot be replaced") > said

    until(kill_the_next, "an attempt that fails", timeout_s=30)
    scene.revive()
    scene.assert_alive(ref)
    scene.assert_counted(ref)
    scene.nothing_left("a shim that is killed as it starts")


def test_all_die_and_every_container_is_accounted_for(scene: Scene) -> None:
    """A container that writes meanwhile has nobody to write to."""
    scene.may_lose_lines = True
    writer, quiet = scene.run(COUNT), scene.run("exec sleep 1000")
    _kill(scene, "engine", "shim", "pump")
    scene.revive()
    state = scene.state(writer)
    assert state["Status"] == "running" or state["ExitCode"] in (_BROKEN_PIPE, _UNKNOWN), state
    assert scene.state(quiet)["Status"] == "running"
    scene.assert_enterable(quiet)
    scene.remove(scene.witness)
    scene.witness = ""
    left = scene.look()
    assert left.rows >= {"containers: 2"}, left.rows
    for ref in scene.all():
        scene.remove(ref)
    until(lambda: not scene.look().cgroups, "the end of all cgroups")
