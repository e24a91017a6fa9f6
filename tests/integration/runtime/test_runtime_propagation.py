"""Where mounts and unmounts go on to, and where they must not."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.kernel import mount
from orlop.kernel.namespaces import Namespace, setns
from tests import host_state
from tests.integration.runtime.box import CAPABILITIES, Box


def test_propagation_is_as_asked(box: Box) -> None:
    source = box.folder / "source"
    source.mkdir()
    box.mount("/private", str(source), "rprivate")
    box.mount("/shared", str(source), "rshared")
    lines = box.sh("cat /proc/self/mountinfo").splitlines()
    fields = {line.split()[4]: line for line in lines}
    assert "shared:" in fields["/shared"]
    assert "shared:" not in fields["/private"]
    assert "master:" not in fields["/private"]


@pytest.mark.parametrize("prefix", ["", "r"])
@pytest.mark.parametrize(
    ("wanted", "shown"),
    [("shared", "shared:"), ("slave", ""), ("private", ""), ("unbindable", "unbindable")],
)
def test_rootfs_propagation_is_as_asked(box: Box, wanted: str, prefix: str, shown: str) -> None:
    box.linux["rootfsPropagation"] = prefix + wanted
    lines = box.sh("cat /proc/self/mountinfo").splitlines()
    fields = next(line for line in lines if line.split()[4] == "/").split(" - ")[0].split()
    assert "".join(fields[6:]).startswith(shown)
    assert len(fields) == 6 + bool(shown)


@pytest.mark.parametrize("wanted", ["shared", "rshared", "rslave", "private"])
def test_what_is_mounted_before_the_root_is_entered_does_not_reach_the_host(
    box: Box, wanted: str
) -> None:
    box.linux["rootfsPropagation"] = wanted
    box.config["root"] = {"path": "root", "readonly": True}
    (box.folder / "root").mkdir()
    script = f"cat /proc/self/mountinfo > {box.folder}/inside; sleep 0"
    hook: Any = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}
    box.config["hooks"] = {"createContainer": [hook]}
    running = box.sleeping()
    assert f"{box.folder}/root/proc" in (box.folder / "inside").read_text()
    assert str(box.folder) not in Path("/proc/self/mountinfo").read_text()
    assert box.exec(running, "touch", "/x").status != 0


def test_what_is_mounted_in_a_shared_mount_of_the_hosts_does_not_reach_it(box: Box) -> None:
    mount.mount(str(box.folder), str(box.folder), flags=int(mount.MountFlag.BIND))
    box.undo.callback(mount.umount, str(box.folder), mount.Unmount.DETACH)
    mount.mount("", str(box.folder), flags=int(mount.MountFlag.SHARED))
    box.linux["rootfsPropagation"] = "shared"
    box.config["root"] = {"path": "root"}
    (box.folder / "root").mkdir()
    hook: Any = {"path": "/bin/true"}
    box.config["hooks"] = {"createContainer": [hook]}
    box.sleeping()
    assert f"{box.folder}/root" not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def shared_mounts(box: Box) -> Iterator[None]:
    """Be on a host whose mounts are all shared, and see that it has the same mounts afterwards."""
    outside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    folder = os.getcwd()
    try:
        host_state.share_mounts()
        before = host_state.mounts()
        yield
        box.close()
        after = host_state.mounts()
    finally:
        setns(outside, Namespace.MOUNT)
        os.close(outside)
        os.chdir(folder)
    assert before - after == frozenset()
    assert after - before == frozenset()


@pytest.mark.parametrize("order", ["usual", "hooks", "no pivot", "user namespace"])
@pytest.mark.parametrize("wanted", ["shared", "rshared", "slave", "rslave", "private", "rprivate"])
@pytest.mark.usefixtures("shared_mounts")
def test_a_container_leaves_the_mounts_of_a_host_that_shares_them(
    box: Box, wanted: str, order: str
) -> None:
    box.linux["rootfsPropagation"] = wanted
    (box.folder / "source").mkdir()
    box.mount("/source", str(box.folder / "source"), wanted)
    (box.folder / "root").mkdir()
    if order == "hooks":
        box.config["root"] = {"path": "root"}
        box.config["hooks"] = {"createContainer": [{"path": "/bin/true"}]}
    elif order == "no pivot":
        box.config["root"] = {"path": "root"}
        box.manner = box.manner._replace(no_pivot=True)
    elif order == "user namespace":
        mapping = [{"containerID": 0, "hostID": 200_000, "size": 65536}]
        box.linux["namespaces"].append({"type": "user"})
        box.linux["uidMappings"] = box.linux["gidMappings"] = mapping
    running = box.sleeping()
    assert box.exec(running, "true").status == 0


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
@pytest.mark.parametrize("mapped", [False, True])
def test_no_whole_proc_can_be_mounted_where_the_root_was_not_pivoted_to(
    box: Box, kind: str, mapped: bool
) -> None:
    root = Path(box.undo.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
    root.chmod(0o755)  # root of a user namespace has to reach it
    box.config["root"] = {"path": str(root)}
    box.manner = box.manner._replace(no_pivot=True)
    granted = [*CAPABILITIES, "CAP_SETFCAP"]  # as Docker's containers: who maps root needs it
    box.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), granted)
    if mapped:
        mapping = [{"containerID": 0, "hostID": 200_000, "size": 65536}]
        box.linux["namespaces"].append({"type": "user"})
        box.linux["uidMappings"] = box.linux["gidMappings"] = mapping
    attempt = f"mount -t {kind} {kind} /tmp && ls /tmp"
    result = box.run("unshare", "-m", "-r", "-n", "-p", "-f", "sh", "-c", attempt)
    assert result.status != 0, result.output
    assert "mount: " in result.output
