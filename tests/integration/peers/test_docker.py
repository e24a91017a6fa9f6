"""dockerd with Orlop as a runtime: it does what it does with runc."""

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.terminal import Terminal
from tests.integration.peers.inside import LOOK, differences
from tests.integration.peers.servers import IMAGE, RUNTIMES, Done, Peer, fresh_name

Each = Callable[..., tuple[Done, Done]]
MIB = 1 << 20


@pytest.fixture
def with_each(docker: Peer) -> Each:
    """Do `docker run` with runc, then with Orlop."""

    def run(*words: str, stdin: str | None = None) -> tuple[Done, Done]:
        runc, orlop = (
            docker("run", "--rm", "--runtime", name, *words, stdin=stdin) for name in RUNTIMES
        )
        return runc, orlop

    return run


@pytest.fixture(params=RUNTIMES)
def running(request: pytest.FixtureRequest, docker: Peer) -> Iterator[str]:
    """A container that sleeps, run by runc and by Orlop: what is true of one is of the other."""
    name = fresh_name()
    flags = ["--name", name, "--runtime", request.param, "--init=false"]
    docker.said(
        "run", "--detach", *flags, IMAGE, "sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"
    )
    yield name
    docker.said("rm", "--force", name)


def a_disk() -> str:
    """Return the path of a whole disk: limits are for those."""
    disks = (entry for entry in Path("/sys/block").iterdir() if (entry / "device").exists())
    return f"/dev/{min(disks).name}"


def state(docker: Peer, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker.said("inspect", "--format", "{{json .State}}", name))
    return found


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--privileged",
        "--read-only --tmpfs /tmp:size=1m,mode=1770",
        "--user 1000:2000 --group-add 3000 --workdir /var/new",
        "--cap-drop all --cap-add net_raw --cap-add sys_time --user 7",
        "--security-opt no-new-privileges --security-opt seccomp=unconfined",
        "--ulimit nofile=64:128 --memory 64m --pids-limit 33 --cpu-shares 77 --cpuset-cpus 0",
        "--memory 64m --memory-swap 90m --memory-reservation 20m --memory-swappiness 10 --cpus 0.3",
        "--oom-kill-disable --memory 1g --device-read-bps DISK:1mb --device-write-iops DISK:77",
        "--device-cgroup-rule 'c 7:* rm' --device-cgroup-rule 'b *:* r' --cpuset-mems 0",
        "--pid host --ipc host --uts host --network host --cgroupns host",
        "--network none --cgroupns private --hostname box --domainname example --shm-size 3m",
        "--device /dev/null:/dev/other:r --sysctl net.ipv4.ip_unprivileged_port_start=80",
        "--volume /usr/share:/in:ro --volume /dev/shm:/follows:rslave --mount type=tmpfs,dst=/more",
        "--mount type=bind,src=/sys,dst=/s,ro,bind-recursive=readonly,bind-propagation=rprivate",
        "--oom-score-adj 300 --env A=b --stop-signal INT --security-opt systempaths=unconfined",
    ],
)
def test_container_sees_what_it_would_see_under_runc(with_each: Each, flags: str) -> None:
    words = shlex.split(flags.replace("DISK", a_disk()))
    runc, orlop = with_each(*words, IMAGE, "sh", "-c", LOOK)
    assert (runc.status, runc.err) == (orlop.status, orlop.err), orlop
    assert not (found := differences(runc.out, orlop.out)), "\n".join(found)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("IMAGE no-such-program", r"executable file not found in \$PATH"),
        ("IMAGE /no/such/program", "no such file or directory"),
        ("IMAGE /etc/passwd", "permission denied"),
        ("IMAGE /etc", "(is a directory|permission denied)"),
        ("--sysctl kernel.hostname=x IMAGE true", "sysctl.*kernel.hostname"),
        ("--volume /usr/share:/etc/passwd IMAGE true", "mount a directory onto a file"),
        ("--volume /etc/passwd:/etc IMAGE true", "mount a directory onto a file"),
        ("--env PATH=/etc IMAGE true", "executable file not found"),
    ],
)
def test_failure_is_of_the_same_kind(with_each: Each, words: str, kind: str) -> None:
    runc, orlop = with_each(*words.replace("IMAGE", IMAGE).split())
    assert orlop.status == runc.status >= 125
    assert re.search(kind, runc.err), runc
    assert re.search(kind, orlop.err), orlop
    assert orlop.out == runc.out == ""


def test_defect_of_the_runtime_is_told_to_dockers_user(docker: Peer) -> None:
    done = docker("run", "--rm", "--runtime", "faulty", IMAGE, "true")
    assert done.status == 125
    assert "internal error: KeyError: 'fault'" in done.err
    assert "unable to retrieve" not in done.err


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 7", 7), ("kill -TERM $$; sleep 9", 143), ("exit 255", 255)],
)
def test_exit_status_comes_through(with_each: Each, script: str, status: int) -> None:
    runc, orlop = with_each("--pid=host", IMAGE, "sh", "-c", script)
    assert runc.status == orlop.status == status


def test_standard_streams_are_apart_and_stdin_ends(with_each: Each) -> None:
    script = "cat; echo more >&2; cat; echo end"
    runc, orlop = with_each("--interactive", IMAGE, "sh", "-c", script, stdin="text\n")
    assert runc == Done(0, "text\nend\n", "more\n")
    assert orlop == runc


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_terminal_has_a_size_that_follows(docker: Peer, runtime: str) -> None:
    flags = ["--rm", "--interactive", "--tty", "--runtime", runtime]
    with Terminal(docker, "run", *flags, IMAGE, "sh") as terminal:
        terminal.expect("/ #")
        terminal.resize(rows=31, columns=99)
        terminal.send('until [ "$(stty size)" = "31 99" ]; do sleep 0.1; done; echo re"sized"\n')
        terminal.expect("resized")
        terminal.send("tty; ls -ln /dev/console; echo $TERM\n")
        terminal.expect(r"\r\n/dev/pts/0\r\ncrw--w---- .* 136, +0 .* /dev/console\r\nxterm")
        loop = "while :; do sleep 0.1; done"  # a shell runs its trap between two commands
        script = f'trap \'echo in""terrupted; exit\' INT; echo wa""iting; {loop}'
        terminal.send(f'sh -c "{script}"\n')
        terminal.expect("waiting")
        terminal.send("\x03")
        terminal.expect("interrupted")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5


def test_exec_sees_the_container(docker: Peer, running: str) -> None:
    flags = ["--env", "A=b", "--user", "1:2", "--workdir", "/etc"]
    script = "echo $A; id -u; id -g; pwd; cat /proc/1/comm; grep CapEff /proc/self/status"
    out = docker.said("exec", *flags, running, "sh", "-c", script)
    assert out.splitlines()[:5] == ["b", "1", "2", "/etc", "sh"]
    assert out.endswith("0" * 16)


def test_exec_takes_input_and_gives_its_status(docker: Peer, running: str) -> None:
    done = docker("exec", "-i", running, "sh", "-c", "cat; exit 9", stdin="in\n")
    assert done == Done(9, "in\n", "")
    for program, kind in (("no-such", "not found in $PATH"), ("/etc/passwd", "permission denied")):
        done = docker("exec", running, program)
        assert done.status == 126, done
        assert re.search(f"OCI runtime exec failed.*{re.escape(kind)}", done.out + done.err), done
    detached = docker("exec", "--detach", running, "touch", "/made")
    assert detached.status == 0, detached
    docker.said("exec", running, "sh", "-c", "until [ -e /made ]; do sleep 0.05; done")


def test_exec_on_a_terminal(docker: Peer, running: str) -> None:
    with Terminal(docker, "exec", "-it", running, "sh", "-c", "tty; exit 4") as terminal:
        terminal.expect("/dev/pts/[0-9]")
        assert terminal.wait() == 4


def test_privileged_exec_has_all_capabilities(docker: Peer, running: str) -> None:
    read = ["sh", "-c", "grep CapEff /proc/self/status"]
    more = docker.said("exec", "--privileged", running, *read)
    assert int(more.split()[1], 16) > int(docker.said("exec", running, *read).split()[1], 16)


def test_paused_container_stands_still(docker: Peer, running: str) -> None:
    docker.said("pause", running)
    assert state(docker, running)["Status"] == "paused"
    assert "paused" in docker("exec", running, "true").err
    assert "already paused" in docker("pause", running).err
    docker.said("unpause", running)
    docker.said("exec", running, "true")
    assert "not paused" in docker("unpause", running).err


def test_update_changes_the_limits_in_place(docker: Peer, running: str) -> None:
    flags = ["--memory", "40m", "--memory-swap", "80m", "--cpu-shares", "300", "--cpus", "0.5"]
    docker.said("update", *flags, "--pids-limit", "44", "--cpuset-cpus", "0", running)
    files = ["memory/memory.limit_in_bytes", "cpu/cpu.shares", "cpu/cpu.cfs_quota_us"]
    files += ["pids/pids.max", "cpuset/cpuset.cpus"]
    read = docker.said("exec", running, "cat", *(f"/sys/fs/cgroup/{name}" for name in files))
    assert read.split() == [str(40 * MIB), "300", "50000", "44", "0"]


def test_stats_and_top_count_the_processes(docker: Peer, running: str) -> None:
    told = json.loads(docker.said("stats", "--no-stream", "--format", "{{json .}}", running))
    assert told["PIDs"] == "2"
    assert re.match(r"[1-9][\d.]*(KiB|MiB) / \d", told["MemUsage"]), told
    lines = docker.said("top", running, "-o", "pid,args").splitlines()
    assert sorted(line.split(None, 1)[1].split()[0] for line in lines[1:]) == ["sh", "sleep"]


def test_stop_kill_and_restart(docker: Peer, running: str) -> None:
    docker.said("stop", running)
    assert state(docker, running)["ExitCode"] == 0
    docker.said("start", running)
    docker.said("kill", "--signal", "KILL", running)
    assert docker.said("wait", running) == "137"
    assert not state(docker, running)["OOMKilled"]
    docker.said("restart", running)
    assert state(docker, running)["Running"]
    assert "is not running" not in docker("kill", "--signal", "WINCH", running).err


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_memory_over_the_limit_is_told_as_such(docker: Peer, runtime: str) -> None:
    name = fresh_name()
    flags = ["--name", name, "--runtime", runtime, "--memory", "16m", "--memory-swap", "16m"]
    done = docker("run", *flags, IMAGE, "sh", "-c", "exec tail /dev/zero")
    assert done.status == 137, done
    assert state(docker, name)["OOMKilled"]
    docker.said("rm", name)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_logs_and_health(docker: Peer, runtime: str) -> None:
    name = fresh_name()
    health = ["--health-cmd", "test -e /made", "--health-interval", "100ms", "--health-retries=1"]
    script = "echo out; echo err >&2; touch /made; sleep 600"
    docker.said(
        "run", "-d", "--name", name, "--runtime", runtime, *health, IMAGE, "sh", "-c", script
    )
    try:
        await_health(docker, name, "healthy")
        assert docker("logs", name) == Done(0, "out\n", "err\n")
        docker.said("exec", name, "rm", "/made")
        await_health(docker, name, "unhealthy")
    finally:
        docker.said("rm", "--force", name)


def await_health(docker: Peer, name: str, wanted: str) -> None:
    deadline = time.monotonic() + 20
    while state(docker, name)["Health"]["Status"] != wanted:
        assert time.monotonic() < deadline, state(docker, name)


def test_checkpoint_ends_the_container(docker: Peer, running: str) -> None:
    """There is no way back to try: this Docker cannot start from a checkpoint, whoever made it."""
    docker.said("checkpoint", "create", running, "first")
    assert state(docker, running)["Status"] == "exited"
    assert "first" in docker.said("checkpoint", "ls", running).split()


def test_many_at_once(docker: Peer) -> None:
    with ThreadPoolExecutor(12) as workers:
        words = ["run", "--rm", "--runtime", "orlop", IMAGE, "sh", "-c"]
        done = workers.map(lambda n: docker(*words, f"echo {n}; exit {n}"), range(12))
    assert list(done) == [Done(n, f"{n}\n", "") for n in range(12)]


def test_docker_knows_what_the_runtime_can_do(docker: Peer) -> None:
    told = json.loads(docker.said("info", "--format", "{{json .Runtimes}}"))
    runc, orlop = (
        json.loads(told[name]["status"]["org.opencontainers.runtime-spec.features"])
        for name in RUNTIMES
    )
    assert "rro" in runc["mountOptions"]
    assert set(runc["mountOptions"]) <= set(orlop["mountOptions"])
    for kind in ("capabilities", "namespaces"):
        assert set(runc["linux"][kind]) <= set(orlop["linux"][kind])


def test_files_are_copied_and_images_are_made_of_what_runs(docker: Peer, running: str) -> None:
    docker.said("exec", running, "sh", "-c", "echo made > /made")
    docker.said("cp", f"{running}:/made", f"{docker.folder}/copied")
    assert (docker.folder / "copied").read_text() == "made\n"
    docker.said("cp", f"{docker.folder}/copied", f"{running}:/tmp/back")
    assert docker.said("exec", running, "cat", "/tmp/back") == "made"
    assert {"A /made", "A /tmp/back"} <= set(docker.said("diff", running).splitlines())
    image = docker.said("commit", running)
    assert docker.said("run", "--rm", "--runtime", "orlop", image, "cat", "/made") == "made"
    docker.said("rmi", image)
