"""Where mounts and unmounts go on to, and where they must not."""

from pathlib import Path
from typing import Any

import pytest

from orlop.kernel import mount
from tests.integration.runtime.box import Box


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
