"""Containers made by a process in reserve: the same as any, and nothing of it is left."""

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ctypes import c_int
from pathlib import Path

import pytest

from orlop.errors import CommandNotFoundError, OrlopError
from orlop.kernel.capabilities import BIT, supported
from orlop.kernel.process import clone3, clone_over, pidfd_send_signal, wait_exit
from orlop.kernel.ptrace import hold_after_vfork
from orlop.runtime.ahead import Ahead
from orlop.runtime.cgroups.layout import detect
from orlop.runtime.child import Child
from orlop.runtime.plan import plan_process
from orlop.runtime.reserve import Order, Reserves
from orlop.runtime.start import take_terminal, wait_ready
from tests.integration.runtime.box import Box

LOOK = """
readlink /proc/self/ns/pid /proc/self/ns/net /proc/self/ns/mnt | sort -u | wc -l
echo pid $$ caps $(grep CapInh /proc/self/status) umask $(umask) in $(pwd)
cat /proc/self/cgroup | sed 's/.*://' | sort -u
echo fds $(ls /proc/self/fd | wc -l)
ifconfig lo | grep -c UP
exec grep -E 'Seccomp:|NoNewPrivs|SigIgn|SigBlk' /proc/self/status
"""


@pytest.fixture
def ahead(box: Box) -> Iterator[Ahead]:
    """One that has a process in reserve, and gives it to *box*."""
    made = Ahead()
    box.ahead = made
    try:
        refilled(made)
        assert len(made.processes.pids) == 1
        yield made
    finally:
        made.close()
        assert not made.processes.pids


def refilled(ahead: Ahead) -> None:
    """Have a process in reserve that is ready."""
    ahead.processes.refill()
    (reserve,) = ahead.processes.pool
    assert select.select([reserve.orders], [], [], 20)[0]
    assert reserve.orders.recv(1, socket.MSG_PEEK)  # nothing, if it has ended


def until_reaped(ahead: Ahead, reserve: int) -> None:
    deadline = time.monotonic() + 10
    while reserve in ahead.processes.pids:  # killed, and not yet at its end
        assert time.monotonic() < deadline
        ahead.processes.reap()


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def test_container_of_a_reserve_is_like_any(box: Box, ahead: Ahead) -> None:
    (reserve,) = ahead.processes.pids
    by_reserve = box.sh(LOOK)
    refilled(ahead)
    until_reaped(ahead, reserve)
    assert state_of(reserve) == ""
    box.ahead = None
    assert by_reserve == box.sh(LOOK)
    assert "pid 1 " in by_reserve


def test_one_that_is_not_ready_yet_is_waited_for(
    box: Box, ahead: Ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment: a start without it takes longer."""
    (reserve,) = (one.pid for one in ahead.processes.pool)
    monkeypatch.setattr("orlop.runtime.reserve._is_ready", lambda _: False)  # a moment ago
    assert box.sh("echo made").strip() == "made"
    assert reserve not in (one.pid for one in ahead.processes.pool)


def test_exec_by_a_reserve_is_in_the_container(box: Box, ahead: Ahead) -> None:
    box.ahead = None
    running = box.sleeping()
    box.ahead = ahead
    assert box.exec(running, "sh", "-c", "pidof sleep; exit 7") == (7, "1\n")


def test_network_made_ahead_is_for_who_is_to_have_a_new_one(box: Box, ahead: Ahead) -> None:
    networks = []
    for _ in range(3):  # the first is without
        looked = "readlink /proc/self/ns/net; ifconfig lo | grep -c UP"
        network, up = box.sh(looked).split()
        assert up == "1"
        networks.append(network)
        refilled(ahead)
    own = os.readlink("/proc/self/ns/net")
    assert own not in networks
    box.ahead = None
    running = box.sleeping()
    box.ahead = ahead
    joined = os.readlink(f"/proc/{running.pid}/ns/net")
    assert box.exec(running, "readlink", "/proc/self/ns/net").output.strip() == joined
    pidfd_send_signal(running.pidfd, signal.SIGKILL)
    box.finish(running)
    box.run("true")
    refilled(ahead)
    kept = [entry for entry in box.linux["namespaces"] if entry["type"] != "network"]
    box.linux["namespaces"] = kept
    box.config["mounts"] = [m for m in box.config["mounts"] if m["type"] != "sysfs"]
    assert box.sh("readlink /proc/self/ns/net").strip() == own


def test_child_is_ours_and_the_reserve_is_gone_while_it_runs(box: Box, ahead: Ahead) -> None:
    (reserve,) = ahead.processes.pids
    running = box.sleeping()
    fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[1]) == os.getpid()
    deadline = time.monotonic() + 5
    while state_of(reserve) not in ("", "Z"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_failure_of_a_step_is_told_as_ever(box: Box, ahead: Ahead) -> None:
    with pytest.raises(CommandNotFoundError, match="nope"):
        box.run("nope")
    refilled(ahead)
    box.config["mounts"].append({"destination": "/x", "type": "nonsense", "source": "x"})
    with pytest.raises(OrlopError, match="nonsense"):
        box.run("true")


def test_reserve_that_was_killed_is_done_without(box: Box, ahead: Ahead) -> None:
    (reserve,) = ahead.processes.pids
    os.kill(reserve, signal.SIGKILL)
    assert box.run("sh", "-c", "exit 5").status == 5


def test_refused_clone_is_an_error(ahead: Ahead, tmp_path: Path) -> None:
    child = Child(plan_process({"args": ["true"]}), stdio=None)
    no_cgroup = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            ahead.processes.clone(Order(0, no_cgroup, (), child))
    finally:
        os.close(no_cgroup)


def test_terminal_of_a_container_of_a_reserve(box: Box, ahead: Ahead) -> None:
    box.process["terminal"] = True
    box.process["args"] = ["sh", "-c", "tty; exit 3"]
    starting = box.start(None)
    wait_ready(starting)
    terminal = take_terminal(starting)
    assert terminal is not None
    assert os.read(terminal, 100).strip() == b"/dev/pts/0"
    os.close(terminal)
    assert box.finish(starting) == 3


def test_reserve_never_runs_on_the_stack_that_its_child_has_used() -> None:
    """Held by the kernel, even though nobody kills it when its child has ended."""
    told, tell = os.pipe()
    go, begin = os.pipe()
    cloned = clone3(0)
    if not cloned.pid:
        try:
            os.read(go, 1)
            pid = c_int()
            clone_over(0, pid)
            os.write(tell, b"%d" % pid.value)  # a second time, if the reserve came back
        finally:
            os._exit(0)
    hold_after_vfork(cloned.pid)
    os.write(begin, b"x")
    child = int(os.read(told, 20))
    os.waitpid(child, 0)  # ours, not the reserve's
    time.sleep(0.2)
    os.set_blocking(told, False)
    with pytest.raises(BlockingIOError):
        os.read(told, 20)
    assert state_of(cloned.pid) == "t"
    pidfd_send_signal(cloned.pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, cloned.pidfd, os.WEXITED)
    for fd in (told, tell, go, begin, cloned.pidfd):
        os.close(fd)


def test_one_that_a_signal_has_stopped_is_done_without(box: Box, ahead: Ahead) -> None:
    (reserve,) = ahead.processes.pids
    os.kill(reserve, signal.SIGTERM)  # its tracer alone could let it go on
    assert box.run("sh", "-c", "exit 5").status == 5
    assert state_of(reserve) == ""


def test_one_that_has_ended_or_stopped_is_replaced(ahead: Ahead) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        (reserve,) = ahead.processes.pids
        os.kill(reserve, number)
        while state_of(reserve) not in ("Z", "t"):
            time.sleep(0.01)
        refilled(ahead)
        assert reserve not in {waiting.pid for waiting in ahead.processes.pool}


def test_child_that_cannot_say_that_it_is_there(ahead: Ahead) -> None:
    """Frozen where it is made; it might as well be killed by the container that it is to join."""
    unified = detect().unified
    assert unified is not None
    cgroup = Path(unified.mountpoint, f"orlop-test-{os.getpid()}")
    cgroup.mkdir()
    try:
        (cgroup / "cgroup.freeze").write_text("1")
        fd = os.open(cgroup, os.O_PATH)
        child = Child(plan_process({"args": ["true"]}), stdio=None)
        cloned = ahead.processes.clone(Order(0, fd, (), child))
        os.close(fd)
        assert cloned is not None
        assert (cgroup / "cgroup.procs").read_text().split() == [str(cloned.pid)]
        pidfd_send_signal(cloned.pidfd, signal.SIGKILL)
        (cgroup / "cgroup.freeze").write_text("0")
        os.waitid(os.P_PIDFD, cloned.pidfd, os.WEXITED)
        os.close(cloned.pidfd)
    finally:
        (cgroup / "cgroup.kill").write_text("1")
        cgroup.rmdir()


def _children() -> set[str]:
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for told in lists for pid in told.read_text().split()}


def test_child_that_we_have_no_descriptor_for_is_none(ahead: Ahead) -> None:
    others = _children() - {str(pid) for pid in ahead.processes.pids}
    child = Child(plan_process({"args": ["true"]}), stdio=None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_fd = os.dup(0)
    os.close(next_fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_fd, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            ahead.processes.clone(Order(0, -1, (), child))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    ahead.processes.close()
    assert _children() <= others


def test_order_that_is_too_long_leaves_the_reserve_to_the_next(box: Box, ahead: Ahead) -> None:
    (reserve,) = ahead.processes.pids
    box.process["env"].append("LONG=" + "x" * (130 << 10))
    with pytest.raises(OrlopError, match="argument list too long"):  # longer than execve takes
        box.run("true")
    assert {waiting.pid for waiting in ahead.processes.pool} == {reserve}
    del box.process["env"][-1]
    box.run("true")
    assert not ahead.processes.pool.waiting


def test_capabilities_are_the_hosts_not_what_an_image_says(box: Box) -> None:
    supported.cache_clear()
    box.config["mounts"] = [m for m in box.config["mounts"] if m["destination"] != "/proc"]
    box.linux["maskedPaths"], box.linux["readonlyPaths"] = [], []
    fake = box.lower / "proc/sys/kernel/cap_last_cap"
    fake.parent.mkdir(parents=True)
    fake.write_text("0")
    box.ahead = Ahead()
    try:
        refilled(box.ahead)
        running = box.sleeping()
        status = Path(f"/proc/{running.pid}/status").read_text()
    finally:
        box.ahead.close()
    bounding = sum(1 << BIT[name] for name in box.process["capabilities"]["bounding"])
    assert f"CapBnd:\t{bounding:016x}\n" in status


def test_scheduling_class_is_that_of_the_parent(box: Box, ahead: Ahead) -> None:
    (reserve,) = ahead.processes.pids
    os.kill(reserve, signal.SIGKILL)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        while state_of(reserve) != "Z":
            time.sleep(0.01)
        refilled(ahead)
        assert box.sh("cut -d ' ' -f 41 /proc/1/stat").strip() == str(os.SCHED_BATCH)
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def test_there_are_none_where_the_kernel_lets_us_hold_none() -> None:
    asked = clone3(0)
    if not asked.pid:
        status = 1
        try:
            os.setresuid(65534, 65534, 65534)  # who may not trace what cannot be dumped
            reserves = Reserves()
            refused = not reserves.refill() and not reserves.pids
            status = 0 if refused and reserves.pool.ahead == 0 else 2
        finally:
            os._exit(status)
    assert wait_exit(asked.pidfd) == 0
    os.close(asked.pidfd)


def test_in_a_user_namespace_containers_get_the_hosts_devices(tmp_path: Path) -> None:
    """As root of Podman's, who can make no nodes, nor come back from SCHED_IDLE."""
    code = "from tests.integration.runtime.test_runtime_reserve import run_inside; run_inside()"
    command = [
        *("unshare", "--user", "--mount", "--map-users=0,0,65536", "--map-groups=0,0,65536"),
        *(sys.executable, "-c", code, str(tmp_path)),
    ]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"1, 3\n"


def run_inside() -> None:
    """Write what /dev/null is to a container of a reserve."""
    box = Box(Path(sys.argv[1]))
    own = ("/sys/fs/cgroup", "/dev/mqueue")
    box.config["mounts"] = [m for m in box.config["mounts"] if m["destination"] not in own]
    box.ahead = Ahead()
    try:
        refilled(box.ahead)
        print(box.sh("stat -c '%t, %T' /dev/null").strip())
        assert not box.ahead.processes.pool.waiting
    finally:
        box.ahead.close()
        box.close()
