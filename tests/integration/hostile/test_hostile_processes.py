"""What a process inside may and may not do, with the defaults that everybody gets."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.hostile.conftest import Hostile

SOCKET_PROBE = """
import socket, sys
try:
    socket.socket({family}, socket.SOCK_SEQPACKET if {family} == 38 else socket.SOCK_STREAM)
    print("made")
except OSError as error:
    print(error.errno)
"""


@pytest.fixture
def running(hostile: Hostile) -> str:
    return hostile.engine.out("run", "-d", "--network", "none", hostile.image(), "sleep", "300")


def test_only_the_three_standard_descriptors_reach_a_process(
    hostile: Hostile, running: str
) -> None:
    look = ("sh", "-c", "ls /proc/self/fd; ls /proc/1/fd")
    for said in (hostile.run(hostile.image(), *look), hostile.engine.out("exec", running, *look)):
        assert set(said.split()) <= {"0", "1", "2", "3"}, said


def test_no_capability_is_inheritable(hostile: Hostile, running: str) -> None:
    look = ("grep", "CapInh", "/proc/self/status")
    for said in (hostile.run(hostile.image(), *look), hostile.engine.out("exec", running, *look)):
        assert said.split() == ["CapInh:", "0000000000000000"]


def test_default_capabilities_are_those_of_docker(hostile: Hostile) -> None:
    said = hostile.run(hostile.image(), "grep", "CapBnd", "/proc/self/status")
    assert said.split() == ["CapBnd:", "00000000a80425fb"]


@pytest.mark.parametrize(("family", "name"), [(38, "AF_ALG"), (40, "AF_VSOCK")])
def test_sockets_that_reach_the_kernel_or_the_host_are_refused(
    hostile: Hostile, family: int, name: str
) -> None:
    del name
    program = SOCKET_PROBE.format(family=family)
    done = hostile.engine.docker(
        "run", "--rm", "--network", "none", "host", "/usr/bin/python3", "-c", program
    )
    assert done.stdout.strip() != "made"


def test_a_new_user_namespace_is_refused(hostile: Hostile) -> None:
    said = hostile.run(hostile.image(), "unshare", "-U", "true")
    assert "not permitted" in said.lower()


def test_cgroups_are_read_only_inside(hostile: Hostile) -> None:
    done = hostile.run(
        hostile.image(),
        "sh",
        "-c",
        "find /sys/fs/cgroup -name cgroup.procs | while read f; do echo 1 > $f && echo WROTE; done",
    )
    assert "WROTE" not in done


def test_kernel_settings_are_read_only_or_hidden_inside(hostile: Hostile) -> None:
    paths = ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper")
    for path in paths:
        said = hostile.run(hostile.image(), "sh", "-c", f"echo x > {path} && echo WROTE")
        assert "WROTE" not in said, path


def test_devices_of_the_host_cannot_be_made(hostile: Hostile) -> None:
    root = os.stat("/").st_dev
    read = "dd if=/tmp/disk of=/dev/null bs=1 count=1"
    make = f"mknod /tmp/disk b {os.major(root)} {os.minor(root)} && {read}"
    said = hostile.run(hostile.image(), "sh", "-c", f"{make} && echo READ")
    assert "READ" not in said


@pytest.mark.parametrize(
    "sysctl",
    [
        "kernel.core_pattern=|/bin/sh",
        "net.ipv4.ip_forward=1+kernel.core_pattern=x",
        "vm.swappiness=1",
        "net/../kernel/core_pattern=x",
    ],
)
def test_sysctls_of_the_host_are_refused(hostile: Hostile, sysctl: str) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    hostile.refused(hostile.image(), "true", options=("--sysctl", sysctl))
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_nothing_of_ours_listens_on_an_abstract_socket(hostile: Hostile, running: str) -> None:
    assert running
    pids = _pids(hostile.engine.run)
    assert pids
    listing = Path("/proc/net/unix").read_text().splitlines()[1:]
    abstract = {line.split()[6] for line in listing if line.split()[-1].startswith("@")}
    for pid in pids:
        ours = {
            link.removeprefix("socket:[").removesuffix("]")
            for link in _links(Path(f"/proc/{pid}/fd"))
            if link.startswith("socket:[")
        }
        assert not ours & abstract


def test_state_folders_are_for_root_only(hostile: Hostile, running: str) -> None:
    assert running
    for folder in (hostile.engine.root, hostile.engine.run):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in hostile.engine.run.glob("*.sock"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


def test_the_interpreter_cannot_be_written_from_inside(hostile: Hostile, running: str) -> None:
    """While exec's are made, a process inside tries to open whatever runs them."""
    before = _digest(sys.executable)
    attack = (
        "i=0; while [ $i -lt 400 ]; do i=$((i+1)); for p in /proc/[0-9]*; do"
        " case $(readlink $p/exe) in *python*|*memfd*) echo SAW; echo x >> $p/exe && echo WROTE;;"
        " esac; done; done 2>/dev/null"
    )
    attacker = subprocess.Popen(
        ["docker", "exec", running, "sh", "-c", attack],
        env=hostile.engine.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    while attacker.poll() is None:
        hostile.engine.docker("exec", running, "true", check=False)
    said, _ = attacker.communicate()
    assert "WROTE" not in said
    assert _digest(sys.executable) == before


def _digest(path: str) -> bytes:
    return subprocess.run(["sha256sum", path], capture_output=True, check=True).stdout


def _pids(run: Path) -> list[str]:
    return [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and os.fsencode(run) in _command(entry)
    ]


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
    except OSError:
        return b""


def _links(folder: Path) -> list[str]:
    links = []
    for entry in os.listdir(folder):
        try:
            links.append(os.readlink(folder / entry))
        except OSError:
            continue
    return links
