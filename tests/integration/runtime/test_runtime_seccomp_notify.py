"""Calls that a container's filter notifies are answered by an agent, from the first one on."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import InvalidArgumentError, OrlopError, UnavailableError
from orlop.runtime.bundle import Gate, Stdio
from orlop.runtime.parent import wait_created, wait_ready
from tests.integration.runtime.box import Box
from tests.integration.seccomp.agent import Agent, agent

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")

READ, WRITE, MKDIR, WAITID, EXECVE = 0, 1, 83, 247, 59


@pytest.fixture
def mkdir_agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent to whom no folder can be made."""
    with agent(tmp_path / "agent.sock", {MKDIR: errno.ENOMEDIUM}) as made:
        yield made


def notify(box: Box, *names: str, **more: Any) -> None:
    rule = {"names": list(names), "action": "SCMP_ACT_NOTIFY"}
    policy = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    box.linux["seccomp"] = policy | {"listenerPath": str(box.folder / "agent.sock")} | more


@pytest.mark.parametrize("forgo", [False, True])
def test_the_agent_decides_what_a_call_returns(
    box: Box, mkdir_agent: Agent, *, forgo: bool
) -> None:
    box.process["noNewPrivileges"] = forgo
    notify(box, "mkdir", "mkdirat", "chdir", listenerMetadata="for the agent")
    output = box.sh("mkdir /tmp/x 2>&1 || true; cd /tmp && pwd; ls /tmp")
    assert "No medium found" in output
    assert output.splitlines()[-1] == "/tmp"
    state = mkdir_agent.state()
    assert MKDIR in mkdir_agent.close()
    assert state["fds"] == ["seccompFd"]
    assert state["descriptors"] == 1
    assert state["metadata"] == "for the agent"


def test_the_agent_is_told_of_the_container(box: Box, mkdir_agent: Agent) -> None:
    box.config["annotations"] = {"key": "value"}
    notify(box, "mkdir")
    running = box.sleeping()
    state = mkdir_agent.state()
    assert state["pid"] == running.pid
    assert "metadata" not in state
    assert state["state"] == {
        "ociVersion": state["ociVersion"],
        "id": box.id,
        "status": "creating",
        "pid": running.pid,
        "bundle": str(box.folder),
        "annotations": {"key": "value"},
    }


def test_a_later_process_has_a_listener_of_its_own(box: Box, mkdir_agent: Agent) -> None:
    notify(box, "mkdir")
    running = box.sleeping()
    first = mkdir_agent.state()
    assert "No medium found" in box.exec(running, "mkdir", "/tmp/x").output
    second = mkdir_agent.state()
    assert second["state"]["status"] == "running"
    assert second["state"]["pid"] == running.pid == first["pid"]
    assert second["pid"] != running.pid


@pytest.mark.parametrize("forgo", [False, True])
def test_even_the_calls_that_hand_the_listener_over_can_be_notified(
    box: Box, mkdir_agent: Agent, *, forgo: bool
) -> None:
    box.process["noNewPrivileges"] = forgo
    notify(box, "read", "write", "waitid", "execve", "close", "mmap", "munmap", "brk", "futex")
    assert box.sh("echo hello") == "hello\n"
    assert {READ, WRITE, EXECVE} <= set(mkdir_agent.close())


@pytest.mark.parametrize("forgo", [False, True])
def test_all_calls_can_be_notified(box: Box, mkdir_agent: Agent, *, forgo: bool) -> None:
    box.process["noNewPrivileges"] = forgo
    notify(box, "getppid", defaultAction="SCMP_ACT_NOTIFY")
    assert box.sh("echo hello") == "hello\n"


def test_nothing_of_the_handing_over_stays_in_the_container(box: Box, mkdir_agent: Agent) -> None:
    notify(box, "mkdir")
    assert box.run("ls", "/proc/self/fd").output.split() == ["0", "1", "2", "3"]  # 3 is ls's
    assert len(box.run("ps", "-o", "stat").output.split()) == 2  # a heading, and ps


def test_at_the_gate_the_agent_has_the_listener(box: Box, mkdir_agent: Agent) -> None:
    notify(box, "mkdir")
    box.process["args"] = ["mkdir", "/tmp/x"]
    consent, consenting = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    starting = box.start(Stdio(null, null, null), gate=Gate(consent, consenting))
    wait_created(starting)
    assert mkdir_agent.state()["pid"] == starting.pid
    os.write(consenting, b"g")
    wait_ready(starting)
    assert box.finish(starting) == 1
    for fd in (consent, consenting, null):
        os.close(fd)


def test_a_user_namespace_does_not_keep_the_listener_from_the_agent(
    box: Box, mkdir_agent: Agent
) -> None:
    box.linux["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        box.linux[kind] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    notify(box, "mkdir")
    assert "No medium found" in box.run("mkdir", "/tmp/x").output


def test_without_an_agent_the_container_is_not_started(box: Box) -> None:
    notify(box, "mkdir")
    with pytest.raises(UnavailableError, match=r"agent\.sock"):
        box.run("true")


def test_a_failure_before_the_filter_is_told_as_it_is(box: Box, mkdir_agent: Agent) -> None:
    notify(box, "mkdir")
    with pytest.raises(OrlopError, match="no such file"):
        box.run("/no/such/program")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"listenerPath": ""}, "NOTIFY needs a seccomp.listenerPath"),
        ({"listenerPath": "", "listenerMetadata": "x"}, "listenerMetadata needs"),
    ],
)
def test_what_an_agent_needs_is_asked_for(box: Box, change: dict[str, str], message: str) -> None:
    notify(box, "mkdir", **change)
    with pytest.raises(InvalidArgumentError, match=message):
        box.run("true")


def test_a_listener_nobody_needs_is_ignored(box: Box) -> None:
    box.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/no/such/agent",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
    }
    assert box.run("true").status == 0


def test_the_flags_of_a_listener_reach_the_kernel(box: Box, mkdir_agent: Agent) -> None:
    flags = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"]
    notify(box, "mkdir", flags=[f"SECCOMP_FILTER_FLAG_{flag}" for flag in flags])
    assert "No medium found" in box.run("mkdir", "/tmp/x").output
