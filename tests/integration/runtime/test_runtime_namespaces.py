"""What a container sees of the host, namespace by namespace."""

import os
import socket
from pathlib import Path

import pytest

from orlop.errors import InvalidArgumentError
from tests.integration.runtime.box import Box


def test_every_namespace_asked_for_is_a_new_one(box: Box) -> None:
    links = box.sh("cd /proc/self/ns; for n in pid net ipc uts mnt cgroup; do readlink $n; done")
    for name in ("pid", "net", "ipc", "uts", "mnt", "cgroup"):
        assert os.readlink(f"/proc/self/ns/{name}") not in links
    assert os.readlink("/proc/self/ns/user") == box.sh("readlink /proc/self/ns/user").strip()


def test_the_process_is_pid_1_and_sees_no_other(box: Box) -> None:
    assert box.sh("echo $$; ls /proc | grep -c '^[0-9]'").split()[0] == "1"


def test_hostname_and_domainname_are_the_containers_and_not_the_hosts(box: Box) -> None:
    outside = socket.gethostname()
    box.config["domainname"] = "example.test"
    assert box.sh("hostname; cat /proc/sys/kernel/domainname").split() == ["inside", "example.test"]
    assert socket.gethostname() == outside


def test_a_hostname_without_a_uts_namespace_is_refused(box: Box) -> None:
    box.linux["namespaces"] = [n for n in box.linux["namespaces"] if n["type"] != "uts"]
    with pytest.raises(InvalidArgumentError, match="uts"):
        box.run("true")


def test_a_namespace_is_joined_by_path(box: Box) -> None:
    other = box.sleeping()
    second = Box(box.folder / "second")
    del second.config["hostname"]
    for entry in second.linux["namespaces"]:
        if entry["type"] in ("network", "ipc", "uts", "pid"):
            file = {"network": "net"}.get(entry["type"], entry["type"])
            entry["path"] = f"/proc/{other.pid}/ns/{file}"
    try:
        lines = second.sh(
            "hostname; readlink /proc/self/ns/net; cat /proc/1/comm; readlink /proc/self/ns/pid"
        ).split()
    finally:
        second.close()
    net = os.readlink(f"/proc/{other.pid}/ns/net")
    assert lines == ["inside", net, "sleep", os.readlink(f"/proc/{other.pid}/ns/pid")]
    assert os.readlink("/proc/self/ns/pid_for_children") == os.readlink("/proc/self/ns/pid")


def test_a_mount_namespace_is_joined_with_its_root(box: Box) -> None:
    other = box.sleeping()
    second = Box(box.folder / "second")
    for entry in second.linux["namespaces"]:
        if entry["type"] == "mount":
            entry["path"] = f"/proc/{other.pid}/ns/mnt"
    try:
        box.exec(other, "touch", "/dev/shm/there")
        second.process["user"] = {"username": "alice"}
        assert second.sh("ls /dev/shm; id -u").split() == ["there", "1000"]
    finally:
        second.close()


def test_a_time_namespace_moves_the_monotonic_clock(box: Box) -> None:
    box.linux["namespaces"].append({"type": "time"})
    box.linux["timeOffsets"] = {"boottime": {"secs": 1_000_000_000}}
    uptime = float(box.sh("cat /proc/uptime").split()[0])
    assert uptime > 1_000_000_000
    assert float(Path("/proc/uptime").read_text().split()[0]) < 1_000_000_000
    assert os.readlink("/proc/self/ns/time_for_children") == os.readlink("/proc/self/ns/time")


def test_the_cgroup_namespace_has_the_containers_own_cgroup_as_root(box: Box) -> None:
    assert {line.split(":")[2] for line in box.sh("cat /proc/self/cgroup").split()} == {"/"}


def test_the_cgroup_mount_shows_only_the_containers_processes(box: Box) -> None:
    assert box.sh("cat /sys/fs/cgroup/pids/cgroup.procs").split()[0] == "1"
    assert box.run("mkdir", "/sys/fs/cgroup/pids/x").status != 0


def test_only_the_loopback_interface_is_there(box: Box) -> None:
    assert "eth0" not in box.sh("cat /proc/net/dev")
    assert "lo:" in box.sh("cat /proc/net/dev")


def test_loopback_is_up_in_a_new_network_namespace(box: Box) -> None:
    box.process["capabilities"] = dict.fromkeys(
        ("effective", "permitted", "bounding"), ("CAP_NET_RAW",)
    )
    assert box.run("ping", "-c", "1", "127.0.0.1").status == 0


def test_without_a_process_there_is_one_clear_sentence(box: Box) -> None:
    box.process["args"] = []
    with pytest.raises(InvalidArgumentError, match="no command"):
        box.start()


def test_without_a_cgroup_namespace_the_mount_shows_the_containers_cgroup_alone(box: Box) -> None:
    box.linux["namespaces"] = [n for n in box.linux["namespaces"] if n["type"] != "cgroup"]
    output = box.sh("cat /proc/self/cgroup; cat /sys/fs/cgroup/pids/cgroup.procs | head -1")
    lines = output.splitlines()
    assert lines[-1] == "1"
    assert f"/orlop/{box.id}" in {line.split(":")[2] for line in lines[:-1]}


def test_cgroup_hierarchies_of_several_controllers_have_their_names_as_links(box: Box) -> None:
    names = box.sh("ls /sys/fs/cgroup; ls -l /sys/fs/cgroup | grep -e '->' || true")
    for folder in Path("/sys/fs/cgroup").iterdir():
        if folder.is_symlink():
            assert folder.name in names
