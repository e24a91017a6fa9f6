"""Containers in a user namespace: mapped ids, id-mapped layers, nothing chowned."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import InvalidArgumentError
from orlop.kernel.capabilities import NAMES
from tests.integration.runtime.box import Box

FIRST = 200_000


@pytest.fixture
def mapped(box: Box) -> Box:
    mapping = [{"containerID": 0, "hostID": FIRST, "size": 65536}]
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = mapping
    box.linux["gidMappings"] = mapping
    return box


def test_root_inside_is_nobody_outside(mapped: Box) -> None:
    running = mapped.sleeping()
    status = Path(f"/proc/{running.pid}/status").read_text()
    assert f"Uid:\t{FIRST}\t{FIRST}" in status
    assert mapped.exec(running, "id", "-u").output == "0\n"
    assert os.readlink(f"/proc/{running.pid}/ns/user") != os.readlink("/proc/self/ns/user")


def test_files_of_the_layers_belong_to_root_inside_and_stay_as_they_are(mapped: Box) -> None:
    os.chown(mapped.lower / "etc/group", 5, 6)
    output = mapped.sh("stat -c '%u %g' /etc/passwd /etc/group; echo x > /made; chown 7:8 /made")
    assert output.split() == ["0", "0", "5", "6"]
    assert (mapped.lower / "etc/passwd").stat().st_uid == 0
    assert (mapped.upper / "made").stat().st_uid == 7
    assert (mapped.upper / "made").stat().st_gid == 8


def test_the_usual_mounts_and_devices_work(mapped: Box) -> None:
    output = mapped.sh(
        "echo x > /dev/null; head -c 2 /dev/zero | wc -c; stat -c '%t:%T' /dev/null /dev/tty;"
        "ls /sys/fs/cgroup | head -1; touch /dev/shm/x; cat /proc/timer_list; hostname"
    )
    assert output.split() == ["2", "1:3", "5:0", "blkio", "inside"]


def test_the_host_nodes_cannot_be_changed(mapped: Box) -> None:
    before = stat.S_IMODE(os.stat("/dev/null").st_mode)
    assert mapped.run("chmod", "000", "/dev/null").status != 0
    assert stat.S_IMODE(os.stat("/dev/null").st_mode) == before


def test_a_bind_mount_is_mapped_only_when_asked(mapped: Box) -> None:
    source = mapped.folder / "source"
    source.mkdir(mode=0o755)
    (source / "file").write_text("x")
    mapped.mount("/plain", str(source))
    mapped.mount("/mapped", str(source), "idmap")
    output = mapped.sh("stat -c %u /plain/file /mapped/file; echo y > /mapped/new")
    assert output.split() == ["65534", "0"]
    assert (source / "new").stat().st_uid == 0


def test_a_bind_mount_may_have_mappings_of_its_own_without_a_user_namespace(box: Box) -> None:
    source = box.folder / "source"
    source.mkdir()
    (source / "file").write_text("x")
    mapping = [{"containerID": 0, "hostID": 4000, "size": 100}]
    box.mount("/data", str(source), "idmap")
    entry: Any = box.config["mounts"][-1]
    entry.update(uidMappings=mapping, gidMappings=mapping)
    assert box.sh("stat -c '%u %g' /data/file").split() == ["4000", "4000"]


def test_sources_only_the_host_may_reach_can_be_mounted(mapped: Box) -> None:
    secret = mapped.folder / "private"
    (secret / "volume").mkdir(parents=True)
    secret.chmod(0o700)
    (secret / "volume/file").write_text("volume\n")
    mapped.mount("/volume", str(secret / "volume"), "idmap", "rprivate")
    assert mapped.sh("cat /volume/file") == "volume\n"


def test_capabilities_hold_inside_only(mapped: Box) -> None:
    everything = ["CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_SYS_TIME", "CAP_CHOWN"]
    mapped.process["capabilities"] = dict.fromkeys(
        ("bounding", "effective", "permitted"), everything
    )
    assert mapped.run("mount", "-t", "tmpfs", "t", "/tmp").status == 0
    assert mapped.run("mknod", "/disk", "b", "8", "0").status != 0
    assert "not permitted" in mapped.run("date", "-s", "2001-01-01").output


def test_a_terminal_and_exec_work(mapped: Box) -> None:
    mapped.process["terminal"] = False
    running = mapped.sleeping()
    result = mapped.exec(running, "sh", "-c", "id -u; cat /proc/self/uid_map")
    assert result.output.split() == ["0", "0", str(FIRST), "65536"]


def test_standard_streams_can_be_opened_again(mapped: Box) -> None:
    mapped.process["user"] = {"uid": 9, "gid": 9}
    assert mapped.sh("echo hello > /dev/stdout") == "hello\n"
    running = mapped.sleeping()
    assert mapped.exec(running, "sh", "-c", "echo hello > /dev/stdout").output == "hello\n"


def test_a_network_namespace_of_the_hosts_can_be_joined(mapped: Box) -> None:
    other = Box(mapped.folder / "other")
    running = other.sleeping()
    try:
        for entry in mapped.linux["namespaces"]:
            if entry["type"] == "network":
                entry["path"] = f"/proc/{running.pid}/ns/net"
        assert mapped.sh("readlink /proc/self/ns/net").strip() == os.readlink(
            f"/proc/{running.pid}/ns/net"
        )
        assert os.readlink("/proc/self/ns/net") != os.readlink(f"/proc/{running.pid}/ns/net")
    finally:
        other.close()


def test_a_user_namespace_without_mappings_is_refused(mapped: Box) -> None:
    del mapped.linux["uidMappings"]
    with pytest.raises(InvalidArgumentError, match="mappings"):
        mapped.run("true")


def test_our_interpreter_cannot_be_reached_while_it_is_inside(mapped: Box) -> None:
    """Root inside may trace what is in its user namespace, but not exec's child before its exec."""
    sets = {key: list(NAMES) for key in ("bounding", "effective", "permitted")}
    mapped.process["capabilities"] = sets
    running = mapped.sleeping()
    script = "for i in $(seq 300); do ls -l /proc/[0-9]*/exe; done"
    watcher = mapped.exec_in_background(running, "sh", "-c", script)
    for _ in range(30):
        mapped.exec(running, "true")
    seen = mapped.output_of(watcher)
    assert "sleep" in seen
    assert "python" not in seen
