"""podman with Orlop as a runtime: it does what it does with runc."""

import json
import re
import shlex
from collections.abc import Callable, Iterator

import pytest

from tests.integration.api.terminal import Terminal
from tests.integration.peers.inside import LOOK, differences
from tests.integration.peers.servers import IMAGE, RUNTIMES, Done, Peer, fresh_name

Podman = Callable[..., Done]


def said(done: Done) -> str:
    assert done.status == 0, done
    return done.out.strip()


def own(podman: Peer) -> list[str]:
    """Return the flags of every container: no network, as that needs programs we do not test."""
    return ["--network", "none", "--cgroup-parent", f"/{podman.folder.name}"]


def with_each(podman: Peer, *words: str, stdin: str | None = None) -> tuple[Done, Done]:
    """`podman run` with runc, then with Orlop."""
    runc, orlop = (
        podman("--runtime", str(path), "run", "--rm", *own(podman), *words, stdin=stdin)
        for path in RUNTIMES.values()
    )
    return runc, orlop


@pytest.fixture(params=RUNTIMES)
def each(request: pytest.FixtureRequest, podman: Peer) -> Podman:
    """podman with one of the runtimes."""

    def call(*words: str) -> Done:
        return podman("--runtime", str(RUNTIMES[request.param]), *words)

    return call


@pytest.fixture
def running(each: Podman, podman: Peer) -> Iterator[str]:
    """A container that sleeps, run by runc and by Orlop: what is true of one is of the other."""
    name = fresh_name()
    said(each("run", "--detach", "--name", name, *own(podman), IMAGE, "sleep", "600"))
    yield name
    said(each("rm", "--force", "--time", "0", name))


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--privileged",
        "--read-only --read-only-tmpfs=false --user 5:6 --workdir /etc --env A=b",
        "--memory 64m --pids-limit 33 --cpu-shares 77 --ulimit nofile=64:128 --umask 0077",
        "--cap-drop all --cap-add net_raw --security-opt no-new-privileges --hostname box",
        "--uidmap 0:100000:1000 --gidmap 0:200000:1000 --user 7:8",
        "--volume /usr/share:/in:ro --tmpfs /more:size=1m --sysctl kernel.domainname=example",
        "--pids-limit 0 --tmpfs /etc --device /dev/loop-control:/dev/x:r --shm-size 3m",
        "--security-opt mask=/etc/passwd --security-opt proc-opts=hidepid=2 --ulimit core=0:0",
        "--device-cgroup-rule 'c 1:11 rwm' --read-only --personality LINUX32 --group-add 7",
        "--pid host --ipc host --uts host --cgroupns host --security-opt unmask=all",
    ],
)
def test_container_sees_what_it_would_see_under_runc(podman: Peer, flags: str) -> None:
    runc, orlop = with_each(podman, *shlex.split(flags), IMAGE, "sh", "-c", LOOK)
    assert (runc.status, runc.err) == (orlop.status, orlop.err), orlop
    assert not (found := differences(runc.out, orlop.out)), "\n".join(found)


@pytest.mark.parametrize(
    ("words", "status", "kind"),
    [
        ("IMAGE no-such-program", 127, r"executable file not found in \$PATH"),
        ("IMAGE /no/such/program", 127, "no such file or directory"),
        ("IMAGE /etc/passwd", 126, "permission denied"),
        ("--workdir /etc/passwd IMAGE true", 126, "not a directory"),
    ],
)
def test_failure_is_of_the_same_kind(podman: Peer, words: str, status: int, kind: str) -> None:
    for done in with_each(podman, *words.replace("IMAGE", IMAGE).split()):
        assert done.status == status, done
        assert re.search(kind, done.err, re.IGNORECASE), done


def test_exit_status_and_streams_come_through(podman: Peer) -> None:
    script = "cat; echo err >&2; exit 7"
    runc, orlop = with_each(podman, "-i", IMAGE, "sh", "-c", script, stdin="in\n")
    assert runc == Done(7, "in\n", "err\n")
    assert orlop == runc


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_terminal(podman: Peer, runtime: str) -> None:
    words = ["--runtime", str(RUNTIMES[runtime]), "run", "--rm", "-it", *own(podman), IMAGE, "sh"]
    with Terminal(podman, *words, front=podman.front) as terminal:
        terminal.expect("/ #")
        terminal.send("tty; exit 5\n")
        terminal.expect("/dev/pts/0")
        assert terminal.wait() == 5


def test_exec(each: Podman, running: str) -> None:
    flags = ["--env", "A=b", "--user", "1:2", "--workdir", "/etc"]
    done = each("exec", *flags, running, "sh", "-c", "echo $A $(id -u) $(id -g) $PWD; exit 9")
    assert done == Done(9, "b 1 2 /etc\n", "")
    missing = each("exec", running, "no-such-program")
    assert missing.status == 127
    assert re.search(r"not found in \$PATH", missing.err), missing


def test_pause_update_stats_and_stop(each: Podman, running: str) -> None:
    said(each("pause", running))
    assert said(each("inspect", "--format", "{{.State.Status}}", running)) == "paused"
    assert each("exec", running, "true").status == 255
    said(each("unpause", running))
    said(each("update", "--memory", "40m", "--cpu-shares", "300", running))
    files = ["memory/memory.limit_in_bytes", "cpu/cpu.shares"]
    read = each("exec", running, "cat", *(f"/sys/fs/cgroup/{name}" for name in files))
    assert said(read).split() == [str(40 << 20), "300"]
    (told,) = json.loads(said(each("stats", "--no-stream", "--format", "json", running)))
    assert told["pids"] == "1"
    assert "sleep 600" in said(each("top", running, "args"))
    said(each("kill", "--signal", "KILL", running))
    assert said(each("wait", running)) == "137"
    said(each("start", running))
    said(each("exec", running, "true"))


def test_pod_shares_namespaces(each: Podman, podman: Peer) -> None:
    pod = fresh_name()
    infra = ["--infra-image", IMAGE, "--infra-command", "sleep 600"]
    said(each("pod", "create", "--name", pod, *infra, *own(podman), "--share", "ipc,uts,pid"))
    try:
        names = [fresh_name(), fresh_name()]
        for name in names:
            flags = ["--detach", "--pod", pod, "--name", name, "--network", "none"]
            said(each("run", *flags, IMAGE, "sleep", "600"))
        script = "for n in ipc uts pid; do readlink /proc/self/ns/$n; done; ps | grep -c [s]leep"
        first, second = (said(each("exec", name, "sh", "-c", script)) for name in names)
        assert first == second
        assert first.split()[-1] == "3"
        said(each("pod", "pause", pod))
        said(each("pod", "unpause", pod))
    finally:
        said(each("pod", "rm", "--force", "--time", "0", pod))


def test_checkpoint_goes_on(each: Podman, podman: Peer) -> None:
    name = fresh_name()
    script = "n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.05; done"
    flags = ["--detach", "--name", name, *own(podman)]
    said(each("run", *flags, IMAGE, "sh", "-c", script))
    try:
        said(each("container", "checkpoint", name))
        assert said(each("inspect", "--format", "{{.State.Checkpointed}}", name)) == "true"
        said(each("container", "restore", name))
        before = int(said(each("exec", name, "cat", "/count")) or 0)
        while int(said(each("exec", name, "cat", "/count")) or 0) <= before:
            pass
    finally:
        said(each("rm", "--force", "--time", "0", name))


@pytest.mark.parametrize(
    "flags",
    ["", "--read-only --cap-drop all --workdir /etc", "--volume /usr/share:/in:ro --tmpfs /more"],
)
def test_container_of_an_ordinary_user(rootless: Peer, flags: str) -> None:
    words = ["run", "--rm", "--network", "none", *flags.split(), IMAGE, "sh", "-c", LOOK]
    runc, orlop = (rootless("--runtime", str(path), *words) for path in RUNTIMES.values())
    assert orlop.status == runc.status, orlop
    assert not (found := differences(runc.out, orlop.out)), "\n".join(found)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_life_of_an_ordinary_users_container(rootless: Peer, runtime: str) -> None:
    def call(*words: str) -> Done:
        return rootless("--runtime", str(RUNTIMES[runtime]), *words)

    name = fresh_name()
    said(call("run", "--detach", "--name", name, "--network", "none", IMAGE, "sleep", "600"))
    assert said(call("exec", name, "sh", "-c", "id -u; cat /proc/1/comm")).split() == ["0", "sleep"]
    assert call("exec", name, "no-such-program").status == 127
    said(call("kill", "--signal", "KILL", name))
    assert said(call("wait", name)) == "137"
    said(call("rm", name))
    assert call("run", "--rm", "--network", "none", IMAGE, "no-such-program").status == 127
