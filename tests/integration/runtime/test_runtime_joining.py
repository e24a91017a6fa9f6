"""Namespaces that are not the container's alone, and roots that are entered otherwise."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.errors import InvalidArgumentError, OrlopError
from orlop.kernel.mount import Unmount, umount
from orlop.runtime.bundle import Bundle, Manner, Stdio
from orlop.runtime.start import start
from tests.integration.runtime.box import Box

FIRST = 200_000
MAPPING = [{"containerID": 0, "hostID": FIRST, "size": 65536}]


@pytest.fixture
def plain(box: Box) -> Box:
    """A box whose root is a folder."""
    box.config["root"] = {"path": str(box.lower)}
    box.__class__ = type("Plain", (Box,), {"rootfs": ()})
    return box


@pytest.fixture
def owner(box: Box) -> Iterator[Box]:
    """A running container with a user namespace, in which others can be."""
    made = Box(box.folder / "owner")
    made.linux["namespaces"].append({"type": "user"})
    made.linux["uidMappings"] = made.linux["gidMappings"] = MAPPING
    made.sleeping()
    yield made
    made.close()


def pid_of(box: Box) -> int:
    return box.running[0].pid


def join(box: Box, other: Box, *kinds: str) -> None:
    """Let *box* be in the namespaces of *other*, by path."""
    files = {"network": "net", "mount": "mnt"}
    named = [n for n in box.linux["namespaces"] if n["type"] not in kinds]
    paths = [
        {"type": kind, "path": f"/proc/{pid_of(other)}/ns/{files.get(kind, kind)}"}
        for kind in kinds
    ]
    box.linux["namespaces"] = named + paths


def test_a_user_namespace_is_joined_by_its_path(box: Box, owner: Box) -> None:
    join(box, owner, "user")
    output = box.sh("id -u; cat /proc/self/uid_map; readlink /proc/self/ns/user; echo $$")
    user = os.readlink(f"/proc/{pid_of(owner)}/ns/user")
    assert output.split() == ["0", "0", str(FIRST), "65536", user, "1"]


def test_mappings_of_a_joined_user_namespace_are_its_own_or_refused(box: Box, owner: Box) -> None:
    join(box, owner, "user")
    box.linux["uidMappings"] = box.linux["gidMappings"] = MAPPING
    assert box.sh("id -u") == "0\n"
    box.linux["uidMappings"] = [{**MAPPING[0], "size": 7}]
    with pytest.raises(InvalidArgumentError, match=r"linux\.uidMappings.*by path"):
        box.run("true")


def test_files_of_layers_belong_to_root_inside_a_joined_user_namespace(
    box: Box, owner: Box
) -> None:
    join(box, owner, "user")
    assert box.sh("stat -c %u /etc/passwd; touch /made; stat -c %u /made").split() == ["0", "0"]
    assert (box.upper / "made").stat().st_uid == 0


def test_our_groups_do_not_come_along_where_they_could_not_be_left(box: Box) -> None:
    """As in the user namespace of somebody who may map only himself."""
    command = ["unshare", "--user", "--map-root-user", "sleep", "600"]
    with subprocess.Popen(command) as other:
        try:
            mapped = Path(f"/proc/{other.pid}/uid_map")
            while mapped.read_text().split() != ["0", "0", "1"] or not _sleeps(other.pid):
                time.sleep(0.01)
            box.linux["namespaces"].append({"type": "user", "path": f"/proc/{other.pid}/ns/user"})
            for mount in box.config["mounts"]:
                mount["options"] = [w for w in mount["options"] if not w.startswith("gid=")]
            ours = os.getgroups()
            os.setgroups([4711])
            try:
                assert box.sh("cat /proc/self/setgroups").strip() == "deny"
                assert box.sh("grep Groups /proc/self/status").split() == ["Groups:"]
            finally:
                os.setgroups(ours)
        finally:
            other.kill()


def _sleeps(pid: int) -> bool:
    return "sleep" in Path(f"/proc/{pid}/comm").read_text()


def test_namespaces_of_a_pod_in_a_user_namespace_are_joined_together(box: Box, owner: Box) -> None:
    join(box, owner, "user", "network", "ipc", "uts", "pid")
    del box.config["hostname"]
    output = box.sh("readlink /proc/self/ns/net; readlink /proc/self/ns/pid; cat /proc/1/comm")
    ours = [os.readlink(f"/proc/{pid_of(owner)}/ns/{name}") for name in ("net", "pid")]
    assert output.split() == [*ours, "sleep"]


def test_exec_and_a_terminal_work_in_a_joined_user_namespace(box: Box, owner: Box) -> None:
    join(box, owner, "user")
    running = box.sleeping()
    assert f"Uid:\t{FIRST}\t{FIRST}" in Path(f"/proc/{running.pid}/status").read_text()
    assert box.exec(running, "id", "-u").output == "0\n"
    second = Box(box.folder / "second")
    try:
        join(second, owner, "user")
        second.process.update(terminal=True, args=["sh", "-c", "test -t 0"])
        starting = second.start()
        assert second.finish(starting) == 0
    finally:
        second.close()


def test_what_is_no_user_namespace_cannot_be_joined_as_one(box: Box) -> None:
    box.linux["namespaces"].append({"type": "user", "path": "/proc/self/ns/net"})
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OrlopError, match="user namespace"):
        box.run("true")
    box.linux["namespaces"][-1]["path"] = "/no/such/namespace"
    with pytest.raises(OrlopError, match=r"user namespace.*'/no/such/namespace'"):
        box.run("true")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_root_that_is_a_folder_keeps_its_owners_in_a_user_namespace(plain: Box) -> None:
    plain.linux["namespaces"].append({"type": "user"})
    plain.linux["uidMappings"] = plain.linux["gidMappings"] = MAPPING
    subprocess.run(["chown", "-R", f"{FIRST}:{FIRST}", plain.lower], check=True)
    os.chown(plain.lower / "etc/group", FIRST + 5, FIRST + 6)
    output = plain.sh("stat -c '%u %g' /etc/passwd /etc/group; touch /made")
    assert output.split() == ["0", "0", "5", "6"]
    assert (plain.lower / "made").stat().st_uid == FIRST


def run_in(box: Box, manner: Manner, script: str) -> str:
    box.process["args"] = ["sh", "-ec", script]

    def begin(stdio: Stdio) -> object:
        bundle = Bundle(box.id, str(box.folder), box.config, box.rootfs, manner)
        starting = start(bundle, stdio)
        box.running.append(starting)
        return starting

    result = box.collect(begin)
    assert result.status == 0, result
    return result.output


@pytest.mark.parametrize("readonly", [False, True])
def test_without_pivot_root_the_root_covers_the_hosts(plain: Box, *, readonly: bool) -> None:
    plain.config["root"]["readonly"] = readonly
    script = (
        "ls -d /proc/1/cwd /etc/group; ls /; touch /made || echo refused; grep ' / ' /proc/mounts"
    )
    output = run_in(plain, Manner(no_pivot=True), script)
    assert "boot" not in output.split()
    assert ("refused" in output) is readonly
    assert (plain.lower / "made").exists() is not readonly


def test_a_session_keyring_is_new_unless_the_caller_wants_it_kept(box: Box) -> None:
    del box.linux["maskedPaths"]
    assert box.id not in run_in(box, Manner(no_new_keyring=True), "cat /proc/keys")
    assert f"_ses.{box.id}" in run_in(box, Manner(), "cat /proc/keys")


def without_mount_namespace(box: Box) -> None:
    box.linux["namespaces"] = [n for n in box.linux["namespaces"] if n["type"] != "mount"]
    del box.linux["maskedPaths"], box.linux["readonlyPaths"]
    box.config["mounts"] = []


def test_without_a_mount_namespace_the_root_is_entered_in_the_hosts(plain: Box) -> None:
    without_mount_namespace(plain)
    running = plain.sleeping()
    assert os.readlink(f"/proc/{running.pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    assert os.readlink(f"/proc/{running.pid}/root") == str(plain.lower)
    assert str(plain.folder) not in Path("/proc/self/mountinfo").read_text()


def test_without_a_mount_namespace_mounts_are_the_hosts(plain: Box) -> None:
    without_mount_namespace(plain)
    plain.config["mounts"] = [{"destination": "/tmp", "type": "tmpfs", "source": "t"}]
    try:
        plain.sh("touch /tmp/there")
        assert (plain.lower / "tmp/there").exists()
    finally:
        umount(str(plain.lower / "tmp"), Unmount.DETACH)


def test_paths_cannot_be_hidden_in_the_hosts_mount_namespace(plain: Box) -> None:
    plain.linux["namespaces"] = [n for n in plain.linux["namespaces"] if n["type"] != "mount"]
    with pytest.raises(InvalidArgumentError, match=r"linux\.maskedPaths.*mount namespace"):
        plain.run("true")


def test_a_root_folder_is_entered_in_a_mount_namespace_that_is_joined(plain: Box) -> None:
    other = Box(plain.folder / "other")
    try:
        other.mount("/lower", str(plain.lower))
        other.sleeping()
        without_mount_namespace(plain)
        join(plain, other, "mount")
        plain.config["root"]["path"] = "/lower"
        running = plain.sleeping()
        assert os.readlink(f"/proc/{running.pid}/ns/mnt") == os.readlink(
            f"/proc/{pid_of(other)}/ns/mnt"
        )
        assert plain.exec(running, "ls", "/").output.split() == ["bin", "dev", "etc", "tmp"]
    finally:
        plain.close()
        other.close()
