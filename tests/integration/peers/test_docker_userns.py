"""dockerd with userns-remap and Orlop as a runtime: all in user namespaces, as with runc."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.terminal import Terminal
from tests.integration.peers.inside import LOOK, differences
from tests.integration.peers.servers import FIRST_ID, IMAGE, RUNTIMES, Done, Peer, fresh_name


def with_each(docker: Peer, *words: str) -> tuple[Done, Done]:
    """Do `docker run` with runc, then with Orlop."""
    runc, orlop = (docker("run", "--rm", "--runtime", name, *words) for name in RUNTIMES)
    return runc, orlop


@pytest.fixture(params=RUNTIMES)
def running(request: pytest.FixtureRequest, remapped: Peer) -> Iterator[str]:
    """A container that sleeps, run by runc and by Orlop: what is true of one is of the other."""
    name = fresh_name()
    words = ["--detach", "--name", name, "--runtime", request.param, "--init=false"]
    remapped.said("run", *words, IMAGE, "sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait")
    yield name
    remapped.said("rm", "--force", name)


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--read-only --tmpfs /tmp:size=1m,mode=1770",
        "--user 1000:2000 --group-add 3000 --workdir /var/new",
        "--cap-drop all --cap-add net_raw --user 7 --security-opt no-new-privileges",
        "--ulimit nofile=64:128 --memory 64m --pids-limit 33 --cpu-shares 77 --cpuset-cpus 0",
        "--network none --cgroupns private --hostname box --shm-size 3m --oom-score-adj 300",
        "--sysctl net.ipv4.ip_unprivileged_port_start=80 --env A=b --stop-signal INT",
        "--volume /usr/share:/in:ro --volume VOLUME:/kept --mount type=tmpfs,dst=/more",
        "--userns host --privileged",
        "--userns host --pid host --network host",
    ],
)
def test_container_sees_what_it_would_see_under_runc(remapped: Peer, flags: str) -> None:
    words = shlex.split(flags.replace("VOLUME", fresh_name()))
    runc, orlop = with_each(remapped, *words, IMAGE, "sh", "-c", LOOK)
    assert (runc.status, runc.err) == (orlop.status, orlop.err), orlop
    # A volume's mount is the slave of the host's; runc 1.1 makes it private in a user namespace.
    seen = [re.sub(r"( /kept .*) master:\d+", r"\1", done.out) for done in (runc, orlop)]
    assert not (found := differences(*seen)), "\n".join(found)


def test_device_is_there(remapped: Peer) -> None:
    """What runc 1.1 cannot do: it binds the node to a name that is not there."""
    words = ["--device", "/dev/null:/dev/other:rw", IMAGE, "sh", "-c", "echo x > /dev/other"]
    assert remapped("run", "--rm", "--runtime", "orlop", *words) == Done(0, "", "")


def test_root_inside_is_nobody_of_the_hosts(remapped: Peer, running: str) -> None:
    pid = int(remapped.said("inspect", "--format", "{{.State.Pid}}", running))
    assert Path(f"/proc/{pid}").stat().st_uid == FIRST_ID
    assert re.split(r"\s+", Path(f"/proc/{pid}/uid_map").read_text().strip()) == [
        *("0", str(FIRST_ID), "65536")
    ]
    remapped.said("exec", running, "sh", "-c", "echo made > /made; chown 5:6 /made")
    remapped.said("cp", f"{running}:/made", f"{remapped.folder}/copied-{running}")
    shown = remapped.said("exec", "--user", "5:6", running, "stat", "-c", "%u:%g", "/made")
    assert shown == "5:6"


def test_exec_pause_update_and_stop(remapped: Peer, running: str) -> None:
    assert remapped("exec", running, "sh", "-c", "id -u; exit 9") == Done(9, "0\n", "")
    with Terminal(remapped, "exec", "-it", running, "sh", "-c", "tty; exit 4") as terminal:
        terminal.expect("/dev/pts/[0-9]")
        assert terminal.wait() == 4
    remapped.said("pause", running)
    assert "paused" in remapped("exec", running, "true").err
    remapped.said("unpause", running)
    remapped.said("update", "--pids-limit", "44", running)
    assert remapped.said("exec", running, "cat", "/sys/fs/cgroup/pids/pids.max") == "44"
    remapped.said("stop", running)
    assert remapped.said("inspect", "--format", "{{.State.ExitCode}}", running) == "0"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("IMAGE no-such-program", r"executable file not found in \$PATH"),
        ("IMAGE /etc/passwd", "permission denied"),
        ("--privileged IMAGE true", "privileged mode is incompatible with user namespaces"),
    ],
)
def test_failure_is_of_the_same_kind(remapped: Peer, words: str, kind: str) -> None:
    runc, orlop = with_each(remapped, *words.replace("IMAGE", IMAGE).split())
    assert orlop.status == runc.status >= 125
    assert re.search(kind, runc.err), runc
    assert re.search(kind, orlop.err), orlop
