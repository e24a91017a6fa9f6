"""Containers that launchers make, by recipes: who is one, and that they are as all others."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from orlop.kernel.namespaces import Namespace, unshare
from orlop.shim.channel import Message
from tests.integration.kills.strikes import tracing

from .harness import FailedError, Shim, children, eventually, kill_and_wait, state_of

_LATE_US = 2_000_000

NAMESPACES = ("pid", "mount", "ipc", "uts", "network", "cgroup")


class Alike:
    """Containers on one image, in a network namespace, that differ in their names alone."""

    def __init__(self, shim: Shim, folder: Path) -> None:
        self.shim = shim
        self.layer = folder / "layer.erofs"
        self._folder = folder
        subprocess.run(["mkfs.erofs", "--quiet", self.layer, shim.root], check=True)
        shim.linux["namespaces"] = [{"type": kind} for kind in NAMESPACES]
        self.network = new_network()
        self.changes: dict[str, Any] = {}

    def message(self, name: str, *args: str, **io: Any) -> Message:
        place = self._folder / f"root-{name}"
        if not place.exists():
            (place / "upper").mkdir(parents=True)
            (place / "work").mkdir()
        options = ["lowerdir+=mount:0", f"upperdir={place}/upper", f"workdir={place}/work"]
        self.shim.rootfs = [
            ["erofs", str(self.layer), "", ["ro"]],
            ["overlay", "overlay", "/", options],
        ]
        message = self.shim.start_message(name, *args, **io)
        config = self.shim.bundle_config(name)
        config["hostname"] = name
        for key, value in self.changes.items():
            config[key] = {**config[key], **value} if isinstance(value, dict) else value
        self.shim.write_config(name, config)
        return {**message, "timeline": True}

    def upper(self, name: str) -> Path:
        return self._folder / f"root-{name}" / "upper"

    def joining(self, name: str, *args: str, **io: Any) -> Message:
        """Return the message of one that joins the network namespace, which goes along."""
        return {**self.message(name, *args, **io), "namespaces": ["network"]}

    def start(self, name: str, *args: str, joins: bool = True, **io: Any) -> bool:
        """Start it, and return whether a launcher has made it."""
        if joins:
            answer = self.shim.client.call(self.joining(name, *args, **io), [self.network])
        else:
            answer = self.shim.client.call(self.message(name, *args, **io))
        if "error" in answer:
            raise FailedError(answer["error"])
        return "launcher" in [step[0] for step in answer["ok"]["steps"]]

    def meet(self) -> None:
        """Have two of a kind made, so that the next has a recipe."""
        for name in ("first", "second"):
            self.start(name, "true")
            self.end(name)

    def end(self, name: str) -> Message:
        event = self.shim.wait_exit(name)
        self.shim.request(op="forget", id=name)
        return event


@pytest.fixture
def alike(shim: Shim, tmp_path: Path) -> Iterator[Alike]:
    found = Alike(shim, tmp_path)
    yield found
    os.close(found.network)


def new_network() -> int:
    made: list[int] = []

    def make() -> None:
        unshare(Namespace.NET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    worker = threading.Thread(target=make)
    worker.start()
    worker.join()
    return made[0]


def test_second_of_a_kind_is_made_by_a_launcher(alike: Alike) -> None:
    assert [alike.start(name, "true") for name in ("one", "two", "three")] == [False, True, True]
    assert [alike.end(name)["status"] for name in ("one", "two", "three")] == [0, 0, 0]
    assert alike.shim.cgroups() == []
    assert list((alike.shim.run / "running").iterdir()) == []


def test_each_has_its_own_names_command_limits_and_files(alike: Alike, tmp_path: Path) -> None:
    alike.meet()
    limits = {"resources": {"pids": {"limit": 17}}}
    bound = {"type": "bind", "options": ["rbind"], "destination": "/tmp/own"}
    for name in ("red", "green"):
        (tmp_path / f"{name}.txt").write_text(f"file of {name}\n")
        mounts = [*alike.shim.bundle_config("first")["mounts"]]
        alike.changes = {
            "mounts": [*mounts, {**bound, "source": str(tmp_path / f"{name}.txt")}],
            "linux": limits,
        }
        script = "cat /proc/sys/kernel/hostname /tmp/own; echo $HOME; > /written; exit 3"
        by_launcher = alike.start(name, "sh", "-c", script)
        assert alike.end(name)["status"] == 3
        assert alike.shim.output(name) == f"{name}\nfile of {name}\n/\n"
        assert (alike.upper(name) / "written").exists()
    assert by_launcher


def test_one_that_joins_no_network_has_a_new_one(alike: Alike) -> None:
    alike.changes = {"linux": {"sysctl": {"net.ipv4.ip_default_ttl": "33"}}}
    script = (
        "busybox readlink /proc/self/ns/net;"
        " cat /proc/sys/net/ipv4/ip_default_ttl /proc/net/fib_trie"
    )
    made, found = [], []
    for name in ("one", "two", "three"):
        made.append(alike.start(name, "sh", "-c", script, joins=False))
        assert alike.end(name)["status"] == 0
        namespace, ttl, routes = alike.shim.output(name).split("\n", 2)
        assert ttl == "33"
        assert "127.0.0.1" in routes
        found.append(namespace)
    assert made == [False, True, True]
    assert len({*found, os.readlink("/proc/self/ns/net")}) == 4


def test_limits_of_a_start_are_in_force(alike: Alike) -> None:
    alike.meet()
    alike.changes = {"linux": {"resources": {"memory": {"limit": 8 << 20, "swap": 8 << 20}}}}
    assert alike.start("hungry", "sh", "-c", "exec head -c 100m /dev/zero | tail")
    assert alike.end("hungry")["oom"]


def test_input_reaches_one(alike: Alike) -> None:
    alike.meet()
    assert alike.start("reader", "cat", stdin=True, stdin_once=True)
    with alike.shim.attach("reader") as sock:
        sock.sendall(b"hello\n")
        sock.shutdown(1)
        assert alike.end("reader")["status"] == 0
    assert alike.shim.output("reader") == "hello\n"


@pytest.mark.parametrize("also_stdio", [False, True], ids=["shim", "shim and stdio"])
def test_one_outlives_those_who_die_and_has_its_exit_status(alike: Alike, also_stdio: bool) -> None:
    alike.meet()
    script = "while ! [ -e /tmp/go ]; do sleep 0.02; done; echo went on; exit 9"
    assert alike.start("stays", "sh", "-c", script)
    alike.shim.execute("stays", "before", "true")
    alike.shim.wait_exit("stays", "before")
    stdio = alike.shim.stdio_pid
    alike.shim.kill_shim()
    if also_stdio:
        kill_and_wait(stdio)
    alike.shim.again()
    assert [item["id"] for item in alike.shim.request(op="list") if "exec_id" not in item] == [
        "stays"
    ]
    alike.shim.execute("stays", "after", "sh", "-c", "> /tmp/go")
    assert alike.end("stays")["status"] == 9
    assert alike.shim.output("stays") == "went on\n"


@pytest.mark.parametrize(
    ("command", "kind"),
    [("no-such-program", "command_not_found"), ("/bin/data", "command_not_executable")],
)
def test_one_that_cannot_run_fails_as_any_other(alike: Alike, command: str, kind: str) -> None:
    said = []
    for name in ("first", "second", "third"):
        with pytest.raises(FailedError) as caught:
            alike.start(name, command)
        assert caught.value.kind == kind
        said.append(str(caught.value).replace(name, "NAME"))
    assert len({*said}) == 1
    assert alike.shim.request(op="list") == []
    assert list((alike.shim.run / "running").iterdir()) == []
    assert alike.shim.cgroups() == []


def test_root_that_was_written_to_and_terminals_are_for_a_python_child(alike: Alike) -> None:
    alike.meet()
    assert not alike.start("terminal", "true", terminal=True)
    alike.end("terminal")
    alike.message("written", "true")
    (alike.upper("written") / "etc").mkdir()
    (alike.upper("written") / "etc" / "passwd").write_text("root:x:0:0::/elsewhere:/bin/sh\n")
    assert not alike.start("written", "sh", "-c", "echo $HOME")
    alike.end("written")
    assert alike.shim.output("written") == "/elsewhere\n"


def test_layer_that_is_removed_is_let_go(alike: Alike) -> None:
    alike.meet()
    assert alike.start("stays", "sleep", "100")
    before = identity(alike.layer)
    os.rename(alike.layer, f"{alike.layer}-old")
    shutil.copy(f"{alike.layer}-old", alike.layer)
    assert identity(alike.layer) != before
    eventually(lambda: not alike_made(alike), timeout_s=30)


def alike_made(alike: Alike) -> bool:
    """Whether the next has a recipe; after a sweep it is the first of its kind."""
    name = f"next-{time.monotonic_ns()}"
    by_launcher = alike.start(name, "true")
    alike.end(name)
    time.sleep(0.5)
    return by_launcher


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


@contextmanager
def stopped_launchers(shim: Shim) -> Iterator[list[int]]:
    pids = launchers_of(shim)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(state_of(pid) == "T" for pid in pids))
    try:
        yield pids
    finally:
        for pid in pids:
            if state_of(pid):
                os.kill(pid, signal.SIGCONT)


def launchers_of(shim: Shim) -> list[int]:
    return [pid for pid in children(shim.pid) if name_of(pid) == "orlop-launcher"]


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_list_waits_for_what_has_no_pid_yet(alike: Alike) -> None:
    alike.meet()
    client = alike.shim.client
    with stopped_launchers(alike.shim):
        client.post(alike.joining("late", "sleep", "100"), [alike.network])
        asked = client.post({"op": "list"})
        time.sleep(0.1)  # in which nothing may come; a launcher that is slow has a deputy in 0.2
        assert [one for one in client.received() if one.get("seq") == asked] == []
    eventually(lambda: any(one.get("seq") == asked and "more" in one for one in client.received()))
    [item] = [one for one in alike.shim.request(op="list") if one["id"] == "late"]
    assert state_of(item["pid"])


def test_launcher_that_dies_takes_no_start_along(alike: Alike) -> None:
    alike.meet()
    client = alike.shim.client
    with stopped_launchers(alike.shim) as pids:
        seq = client.post(alike.joining("late", "sleep", "100"), [alike.network])
        time.sleep(0.05)
        for pid in pids:
            kill_and_wait(pid)
    answers: list[Message] = []

    def answered() -> bool:
        answers.extend(one for one in client.received() if one.get("seq") == seq)
        return bool(answers)

    eventually(answered)
    assert "ok" in answers[0], answers
    assert [item["id"] for item in alike.shim.request(op="list")] == ["late"]


def test_shim_that_dies_while_one_is_made_leaves_nothing(alike: Alike) -> None:
    alike.meet()
    shim = alike.shim.pid
    with stopped_launchers(alike.shim):
        alike.shim.client.post(alike.joining("late", "sleep", "100"), [alike.network])
        time.sleep(0.05)
        kill_and_wait(shim)
    alike.shim.again()
    assert alike.shim.request(op="list") == []
    assert alike.shim.cgroups() == []
    assert alike.start("late", "true") in (True, False)
    assert alike.end("late")["status"] == 0


@contextmanager
def launchers_that_answer_late(shim: Shim) -> Iterator[None]:
    """Have strace hold back what launchers say of what they have made."""
    with ExitStack() as stack:
        for pid in launchers_of(shim):
            late = ("-e", "trace=sendto", "-e", f"inject=sendto:delay_enter={_LATE_US}")
            stack.enter_context(tracing(pid, *late, follow=False))
        yield


def test_program_that_runs_when_the_shim_dies_before_it_has_heard_of_it(alike: Alike) -> None:
    alike.meet()
    shim = alike.shim.pid
    script = "> /runs; while ! [ -e /tmp/go ]; do sleep 0.02; done; exit 9"
    with launchers_that_answer_late(alike.shim):
        alike.shim.client.post(alike.joining("soon", "sh", "-c", script), [alike.network])
        eventually(lambda: (alike.upper("soon") / "runs").exists())
        kill_and_wait(shim)
    alike.shim.again()
    assert [item["id"] for item in alike.shim.request(op="list")] == ["soon"]
    alike.shim.execute("soon", "go", "sh", "-c", "> /tmp/go")
    assert alike.end("soon")["status"] == 9


def test_program_that_has_ended_when_the_shim_dies_before_it_has_heard_of_it(alike: Alike) -> None:
    alike.meet()
    shim = alike.shim.pid
    with launchers_that_answer_late(alike.shim):
        message = alike.joining("soon", "sh", "-c", "> /ran; exit 9")
        alike.shim.client.post(message, [alike.network])
        eventually(lambda: (alike.upper("soon") / "ran").exists())
        eventually(lambda: not any(map(processes_of, alike.shim.cgroups())))
        kill_and_wait(shim)
    alike.shim.again()
    eventually(lambda: [item.get("status") for item in alike.shim.request(op="list")] == [9])


def test_program_that_is_not_there_when_the_shim_dies_before_it_has_heard_of_it(
    alike: Alike,
) -> None:
    alike.meet()
    shim = alike.shim.pid
    with launchers_that_answer_late(alike.shim):
        message = alike.joining("soon", "no-such-program")
        alike.shim.client.post(message, [alike.network])
        records = alike.shim.run / "running"
        eventually(lambda: any("witnessed" in path.read_text() for path in records.iterdir()))
        eventually(lambda: not any(map(processes_of, alike.shim.cgroups())))
        kill_and_wait(shim)
    alike.shim.again()
    assert alike.shim.request(op="list") == []
    assert alike.shim.cgroups() == []


def processes_of(cgroup: Path) -> list[str]:
    """Return those that are no zombies."""
    pids = (cgroup / "cgroup.procs").read_text().split()
    return [pid for pid in pids if state_of(int(pid)) not in ("", "Z", "X")]


def test_program_goes_on_whose_launcher_dies_before_it_has_said_that_it_runs(alike: Alike) -> None:
    alike.meet()
    client = alike.shim.client
    script = "echo x >> /runs; while ! [ -e /tmp/go ]; do sleep 0.02; done; exit 9"
    pids = launchers_of(alike.shim)
    with launchers_that_answer_late(alike.shim):
        seq = client.post(alike.joining("goes-on", "sh", "-c", script), [alike.network])
        runs = alike.upper("goes-on") / "runs"
        eventually(lambda: runs.exists() and runs.read_text() == "x\n")
        for pid in pids:
            kill_and_wait(pid)
    answers: list[Message] = []

    def answered() -> bool:
        answers.extend(one for one in client.received() if one.get("seq") == seq)
        return bool(answers)

    eventually(answered)
    assert "ok" in answers[0], answers
    alike.shim.execute("goes-on", "go", "sh", "-c", "> /tmp/go")
    assert alike.end("goes-on")["status"] == 9
    assert runs.read_text() == "x\n"
