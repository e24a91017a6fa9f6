"""Hooks: each kind in its place, with the state on stdin; one that fails undoes the start."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import InvalidArgumentError, OrlopError
from orlop.runtime import hooks, init
from orlop.runtime.child import Child, Step
from tests.integration.runtime.box import Box

RUNTIME = ["prestart", "createRuntime"]
OUTSIDE = [*RUNTIME, "createContainer"]
PID = r"""pid=$(sed 's/.*"pid": *\([0-9]*\).*/\1/'); """


@pytest.fixture
def hooked(box: Box) -> Box:
    """A box whose root is a folder, where hooks can find it."""
    box.config["root"] = {"path": "root"}
    box.config["hooks"] = {}
    (box.folder / "root").mkdir()
    return box


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"], **more}


def add(box: Box, kind: str, *given: dict[str, Any]) -> None:
    wanted: Any = box.config["hooks"]
    wanted[kind] = list(given)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_hooks_run_in_their_order_and_the_program_after_them(hooked: Box) -> None:
    log = hooked.folder / "log"
    for kind in OUTSIDE:
        add(hooked, kind, shell(f"echo {kind} 0 >> {log}"), shell(f"echo {kind} 1 >> {log}"))
    add(hooked, "startContainer", shell("echo startContainer > /tmp/log"))
    assert hooked.sh("cat /tmp/log") == "startContainer\n"
    assert lines(log) == [f"{kind} {i}" for kind in OUTSIDE for i in (0, 1)]


@pytest.mark.parametrize("kind", OUTSIDE)
def test_a_hook_gets_the_state_on_stdin_and_works_in_the_bundle(hooked: Box, kind: str) -> None:
    hooked.config["annotations"] = {"org.example.a": "b"}
    add(hooked, kind, shell("cat > state; pwd > where"))
    hooked.sh("true")
    state = json.loads((hooked.folder / "state").read_text())
    pid = state.pop("pid")
    assert state == {
        "ociVersion": "1.3.0",
        "id": hooked.id,
        "status": "creating",
        "bundle": str(hooked.folder),
        "annotations": {"org.example.a": "b"},
    }
    assert pid == 1 if kind == "createContainer" else pid > 1
    assert lines(hooked.folder / "where") == [str(hooked.folder)]


def test_a_start_hook_without_an_environment_has_the_programs(hooked: Box) -> None:
    hooked.process["env"] += ["A=1", "HOME="]
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo A $A HOME $HOME PATH $PATH >> /tmp/log"]}
    add(hooked, "startContainer", hook, {**hook, "env": ["PATH=/own"]}, {**hook, "env": []})
    first, second, third = hooked.sh("cat /tmp/log").splitlines()
    assert first == "A 1 HOME /root PATH /bin"
    assert second == "A HOME PATH /own"
    assert third.startswith("A HOME PATH /sbin:")  # the shell's own


def test_a_hook_before_the_root_has_nothing_of_the_programs_environment(hooked: Box) -> None:
    hooked.process["env"] += ["LD_PRELOAD=/bad"]
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "env >> env"]}
    for kind in OUTSIDE:
        add(hooked, kind, hook)
    hooked.sh("true")
    found = (hooked.folder / "env").read_text()
    assert found.count("PWD=") == len(OUTSIDE)
    assert "LD_PRELOAD" not in found


def test_a_hook_gets_its_own_arguments_and_environment_and_nothing_of_ours(hooked: Box) -> None:
    script = "(echo $0 $1; env; ls /proc/self/fd) > got"
    hook = {"path": "/bin/sh", "args": ["name", "-c", script, "zero", "one"], "env": ["A=1", "B="]}
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        add(hooked, "createRuntime", hook)
        hooked.sh("true")
    finally:
        os.close(leak)
    got = set(lines(hooked.folder / "got"))
    assert {"zero one", "A=1", "B="} <= got
    assert {line.partition("=")[0] for line in got if "=" in line} <= {
        "A",
        "B",
        "PWD",
        "SHLVL",
        "_",
    }
    assert str(leak) not in got


@pytest.mark.parametrize("kind", OUTSIDE)
def test_a_hook_runs_in_the_right_namespaces(hooked: Box, kind: str) -> None:
    add(hooked, kind, shell("(readlink /proc/self/ns/net; readlink /proc/self/ns/mnt) > found"))
    inside = hooked.sh("readlink /proc/self/ns/net; readlink /proc/self/ns/mnt").split()
    ours = [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "mnt")]
    found = lines(hooked.folder / "found")
    if kind == "createContainer":
        assert not set(found) & set(ours)
    else:
        assert found == ours
    assert inside != ours


def test_a_runtime_hook_finds_the_containers_namespaces_by_its_pid(hooked: Box) -> None:
    add(hooked, "createRuntime", shell(PID + "readlink /proc/$pid/ns/net > net"))
    inside = hooked.sh("readlink /proc/self/ns/net").strip()
    assert lines(hooked.folder / "net") == [inside]
    assert inside != os.readlink("/proc/self/ns/net")


def test_hooks_before_the_root_see_it_mounted_in_the_containers_mount_namespace(
    hooked: Box,
) -> None:
    root = hooked.folder / "root"
    add(hooked, "createContainer", shell(f"mount -t tmpfs t {root}/tmp && touch {root}/tmp/there"))
    script = PID + f"ls /proc/$pid/root{root} > seen"
    add(hooked, "prestart", shell(script))
    assert hooked.sh("ls /tmp; ls -d /proc/self") == "there\n/proc/self\n"
    assert {"proc", "dev", "bin"} <= set(lines(hooked.folder / "seen"))
    assert os.listdir(root) == []


@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_a_start_hook_is_the_containers_and_has_no_more_rights_than_its_program(
    hooked: Box, *, no_new_privileges: bool
) -> None:
    script = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Uid)' /proc/self/status > /dev/shm/status; pwd"
    hooked.process.update(user={"uid": 1000, "gid": 1000}, cwd="/tmp")
    hooked.process["noNewPrivileges"] = no_new_privileges
    add(hooked, "startContainer", shell(script))
    seen = hooked.sh(
        "grep -E '^(CapEff|CapBnd|NoNewPrivs|Uid)' /proc/self/status; cat /dev/shm/status"
    )
    found = seen.splitlines()
    assert len(found) == 8
    assert found[:4] == found[4:]
    assert "Uid:\t1000\t1000\t1000\t1000" in found


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.parametrize("kind", [*OUTSIDE, "startContainer"])
def test_a_hook_that_fails_fails_the_start_with_what_it_said(hooked: Box, kind: str) -> None:
    hooked.run("true")
    before, others = len(os.listdir("/proc/self/fd")), children()
    ok, bad = shell("true"), shell("echo no such thing >&2; exit 7")
    add(hooked, kind, ok, bad)
    with pytest.raises(
        OrlopError, match=rf"{kind} hook 1 \(/bin/sh\): exit status 7: no such thing"
    ):
        hooked.run("true")
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() == others


@pytest.mark.parametrize("kind", [*OUTSIDE, "startContainer"])
def test_a_hook_that_is_not_there_says_so(hooked: Box, kind: str) -> None:
    add(hooked, kind, {"path": "/no/such/hook"})
    with pytest.raises(OrlopError, match=rf"{kind} hook 0 \(/no/such/hook\).*No such file"):
        hooked.run("true")


@pytest.mark.parametrize("kind", ["createRuntime", "startContainer"])
def test_a_hook_that_takes_too_long_fails_the_start(hooked: Box, kind: str) -> None:
    add(hooked, kind, shell("sleep 601", timeout=1))
    with pytest.raises(OrlopError, match=r"hook 0.*longer than its timeout of 1 s"):
        hooked.run("true")


def test_a_hook_that_takes_too_long_is_killed_with_its_children(hooked: Box) -> None:
    add(hooked, "createRuntime", shell("sleep 601 & echo $! > child; wait", timeout=1))
    with pytest.raises(OrlopError, match="timeout"):
        hooked.run("true")
    pid = (hooked.folder / "child").read_text().strip()
    deadline = time.monotonic() + 10
    while _sleeps(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _sleeps(pid)


def _sleeps(pid: str) -> bool:
    try:
        return "601" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def test_a_hook_may_leave_something_running_and_is_not_waited_for_longer(hooked: Box) -> None:
    add(hooked, "createRuntime", shell("sleep 20 & echo $! > left"))
    begin = time.monotonic()
    hooked.sh("true")
    took = time.monotonic() - begin
    os.kill(int((hooked.folder / "left").read_text()), 9)
    assert took < 15


def test_a_terminal_and_hooks_go_together(hooked: Box) -> None:
    add(hooked, "createRuntime", shell("echo ran > ran"))
    hooked.process.update(terminal=True, args=["sh", "-c", "tty"])
    starting = hooked.start()
    assert starting.console is not None
    assert hooked.finish(starting) == 0
    assert lines(hooked.folder / "ran") == ["ran"]


def test_poststart_tells_that_the_program_runs_and_fails_as_a_whole(hooked: Box) -> None:
    running = hooked.sleeping()
    add(hooked, "poststart", shell("cat > state; exit 3"))
    with pytest.raises(OrlopError, match=r"poststart hook 0.*exit status 3"):
        hooks.run_poststart(
            hooked.config, container=hooked.id, pid=running.pid, bundle=str(hooked.folder)
        )
    state = json.loads((hooked.folder / "state").read_text())
    assert (state["status"], state["pid"]) == ("running", running.pid)


def test_poststop_runs_every_hook_and_gives_failures_as_warnings(hooked: Box) -> None:
    add(hooked, "poststop", shell("exit 2"), shell("cat > state"))
    failed = hooks.run_poststop(hooked.config, container=hooked.id, bundle=str(hooked.folder))
    assert len(failed) == 1
    assert "poststop hook 0 (/bin/sh): exit status 2" in failed[0]
    state = json.loads((hooked.folder / "state").read_text())
    assert state["status"] == "stopped"
    assert "pid" not in state


@pytest.mark.parametrize(
    ("hook", "field"),
    [
        ({"path": "relative"}, r"hooks\.createRuntime\[0\]\.path"),
        ({}, r"hooks\.createRuntime\[0\]\.path"),
        ({"path": "/bin/true", "timeout": 0}, r"hooks\.createRuntime\[0\]\.timeout"),
    ],
)
def test_a_hook_that_cannot_be_is_refused_by_its_field(
    hooked: Box, hook: dict[str, Any], field: str
) -> None:
    add(hooked, "createRuntime", hook)
    with pytest.raises(InvalidArgumentError, match=field):
        hooked.run("true")


def test_hooks_in_a_user_namespace(hooked: Box) -> None:
    hooked.folder.chmod(0o755)
    for parent in hooked.folder.parents:
        if parent.stat().st_mode & 0o5 != 0o5:
            parent.chmod(parent.stat().st_mode | 0o5)
    mapping = [{"containerID": 0, "hostID": 200_000, "size": 65536}]
    hooked.linux["namespaces"].append({"type": "user"})
    hooked.linux["uidMappings"] = hooked.linux["gidMappings"] = mapping
    add(hooked, "createContainer", shell("cat /proc/self/uid_map >&2; exit 1"))
    with pytest.raises(OrlopError, match=r"createContainer hook 0.* 200000 "):
        hooked.run("true")
    add(hooked, "createContainer", shell("true"))
    assert hooked.sh("id -u") == "0\n"


def refuse(child: Child) -> None:
    del child
    raise OSError(5, "the test refuses")


def die(child: Child) -> None:
    del child
    os._exit(9)


@pytest.mark.parametrize(
    "step", ["make_mounts", "place_root", "await_runtime_hooks", "change_root"]
)
@pytest.mark.parametrize(
    ("how", "text"), [(refuse, "the test refuses"), (die, "before it could say why")]
)
def test_a_start_with_hooks_that_fails_at_a_step_leaves_nothing(
    hooked: Box,
    step: str,
    how: Callable[[Child], None],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add(hooked, "createRuntime", shell("echo ran > ran"))
    plain = init.last_steps

    def steps(child: Child) -> list[Step]:
        return [how if s.__name__ == step else s for s in plain(child)]

    monkeypatch.setattr(init, "last_steps", steps)
    before, others = len(os.listdir("/proc/self/fd")), children()
    with pytest.raises(OrlopError, match=text):
        hooked.run("true")
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() == others
    assert (hooked.folder / "ran").exists() is (step == "change_root")
