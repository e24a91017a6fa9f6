"""containerd's runc.v2 shim with Orlop as its binary: it does what it does with runc."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.api.terminal import Terminal
from tests.integration.peers.inside import LOOK, differences
from tests.integration.peers.servers import IMAGE, RUNTIMES, Done, Peer, fresh_name

REFERENCE = f"docker.io/library/{IMAGE}"
SLEEP = ["sh", "-c", "trap 'exit 6' TERM; sleep 600 & wait"]


def flags(ctr: Peer, runtime: str, name: str) -> list[str]:
    """Return what each `run` needs: the runtime, and folders and a cgroup of ours."""
    folder = ctr.folder
    ours = ["--runc-root", f"{folder}/runc", "--fifo-dir", f"{folder}/fifo"]
    ours += ["--cgroup", f"/{folder.name}/{name}", "--snapshotter", "native"]
    return ["--runc-binary", str(RUNTIMES[runtime]), *ours]


def with_each(ctr: Peer, *words: str) -> tuple[Done, Done]:
    """`ctr run` with runc, then with Orlop; IMAGE stands before the program."""
    runc, orlop = (run(ctr, runtime, *words) for runtime in RUNTIMES)
    return runc, orlop


def run(ctr: Peer, runtime: str, *words: str) -> Done:
    name = fresh_name()
    at = words.index("IMAGE")
    front = ["run", "--rm", *flags(ctr, runtime, name), *words[:at]]
    return ctr(*front, REFERENCE, name, *words[at + 1 :])


@pytest.fixture(params=RUNTIMES)
def running(request: pytest.FixtureRequest, ctr: Peer) -> Iterator[str]:
    """A container that sleeps, run by runc and by Orlop: what is true of one is of the other."""
    name = fresh_name()
    ctr.said("run", "--detach", *flags(ctr, request.param, name), REFERENCE, name, *SLEEP)
    yield name
    ctr("task", "delete", "--force", name)
    ctr.said("container", "delete", name)


def execute(ctr: Peer, name: str, *words: str) -> Done:
    front = ["task", "exec", "--fifo-dir", f"{ctr.folder}/fifo", "--exec-id", fresh_name()]
    return ctr(*front, name, *words)


def status(ctr: Peer, name: str) -> str:
    (line,) = [line for line in ctr.said("task", "list").splitlines() if line.split()[0] == name]
    return line.split()[2]


def metrics(ctr: Peer, name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(ctr.said("task", "metrics", "--format", "json", name))
    return told


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--privileged --allow-new-privs --net-host",
        "--read-only --user 3:4 --cwd /etc --env A=b",
        "--memory-limit 50000000 --cpus 0.5 --cpu-shares 99 --seccomp",
        "--cap-add CAP_SYS_TIME --cap-drop CAP_CHOWN --device /dev/loop-control --no-pivot",
        "--mount type=bind,src=/usr/share,dst=/in,options=rbind:ro --cpuset-cpus 0",
    ],
)
def test_container_sees_what_it_would_see_under_runc(ctr: Peer, words: str) -> None:
    runc, orlop = with_each(ctr, *words.split(), "IMAGE", "sh", "-c", LOOK)
    assert (runc.status, runc.err) == (orlop.status, orlop.err), orlop
    assert not (found := differences(runc.out, orlop.out)), "\n".join(found)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("IMAGE no-such-program", r"executable file not found in \$PATH"),
        ("IMAGE /etc/passwd", "permission denied"),
        ("--cwd /etc/passwd IMAGE true", "not a directory"),
        (
            "--mount type=bind,src=/no/such,dst=/in,options=rbind IMAGE true",
            "no such file or directory",
        ),
        ("--apparmor-profile none IMAGE true", "(?i)apparmor"),
    ],
)
def test_failure_is_of_the_same_kind(ctr: Peer, words: str, kind: str) -> None:
    runc, orlop = with_each(ctr, *words.split())
    assert orlop.status == runc.status != 0
    for done in (runc, orlop):
        assert "OCI runtime create failed" in done.err, done
        assert re.search(kind, done.err), done


def test_exit_status_and_streams_come_through(ctr: Peer) -> None:
    runc, orlop = with_each(ctr, "IMAGE", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert runc.status == 7
    assert orlop == runc


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_terminal(ctr: Peer, runtime: str) -> None:
    name = fresh_name()
    words = ["run", "--rm", "--tty", *flags(ctr, runtime, name), REFERENCE, name, "sh"]
    with Terminal(ctr, *words, front=ctr.front) as terminal:
        terminal.expect("/ #")
        terminal.send("tty; exit 5\n")
        terminal.expect("/dev/pts/0")
        assert terminal.wait() == 5


def test_exec(ctr: Peer, running: str) -> None:
    done = execute(ctr, running, "sh", "-c", "cat /proc/1/comm; echo err >&2; exit 9")
    assert done == Done(9, "sh\n", "err\n")
    missing = execute(ctr, running, "no-such-program")
    assert missing.status == 1
    assert re.search(r"OCI runtime exec failed.*not found in \$PATH", missing.err), missing
    processes = ctr.said("task", "ps", running).splitlines()
    assert len(processes) == 1 + len(["header", "sh", "sleep"]) - 1


def test_pause(ctr: Peer, running: str) -> None:
    ctr.said("task", "pause", running)
    assert status(ctr, running) == "PAUSED"
    assert "paused" in execute(ctr, running, "true").err
    ctr.said("task", "resume", running)
    assert status(ctr, running) == "RUNNING"
    assert execute(ctr, running, "true").status == 0


def test_metrics_count(ctr: Peer, running: str) -> None:
    told = metrics(ctr, running)
    assert told["pids"]["current"] == 2
    assert told["memory"]["usage"]["usage"] > 0
    assert told["cpu"]["usage"]["total"] > 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_checkpoint_goes_on_as_another_container(ctr: Peer, runtime: str) -> None:
    name, image, restored = fresh_name(), f"of-{fresh_name()}", fresh_name()
    script = "n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.05; done"
    words = [*flags(ctr, runtime, name), REFERENCE, name, "sh", "-c", script]
    ctr.said("run", "--detach", *words)
    try:
        while not (before := execute(ctr, name, "cat", "/count").out):
            pass
        ctr.said("container", "checkpoint", "--rw", "--task", name, image)
        ctr.said("task", "delete", "--force", name)
        ctr.said("container", "delete", name)
        ctr.said("container", "restore", "--rw", "--live", restored, image)
        assert status(ctr, restored) == "RUNNING"
        while int(execute(ctr, restored, "cat", "/count").out or before) <= int(before):
            pass
    finally:
        for left in (name, restored):
            ctr("task", "delete", "--force", left)
            ctr("container", "delete", left)


def test_kill_and_delete(ctr: Peer, running: str) -> None:
    refused = ctr("task", "delete", running)
    assert refused.status == 1
    assert "must be stopped before deletion" in refused.err
    ctr.said("task", "kill", "--signal", "TERM", running)
    while status(ctr, running) != "STOPPED":
        assert "cannot" not in ctr("task", "kill", "--signal", "WINCH", running).err
    assert "exit code 6" in ctr("task", "delete", running).err
    assert "not found" in ctr("task", "kill", running).err
