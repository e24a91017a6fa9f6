"""Checkpoints that somebody else has made: nothing of the host is theirs to reach."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.oci_runtime.images import COUNTER, Images
from tests.integration.oci_runtime.program import OCIBundle, Program


@pytest.fixture
def images(program: Program, bundle: OCIBundle) -> Images:
    return Images(program, bundle)


def refused(images: Images, name: str) -> str:
    """Restore, which must fail and leave nothing; what was said."""
    with open(os.devnull, "w") as null:
        said = images.program.refused(*images.restoring(name), stdout=null)
    assert images.program.ok("list", "--quiet") == ""
    return said


@pytest.mark.parametrize("file", ["pages-1.img", "core-1.img", "descriptors.json"])
def test_an_image_that_is_a_link_is_refused(images: Images, tmp_path: Path, file: str) -> None:
    name = images.counting()
    images.checkpoint(name)
    (images.path / file).rename(tmp_path / "elsewhere")
    (images.path / file).symlink_to(tmp_path / "elsewhere")
    assert file in refused(images, name)


def test_a_parents_image_that_is_a_link_is_refused(images: Images, tmp_path: Path) -> None:
    name = images.counting()
    images.checkpoint(name)
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent/pages-1.img").symlink_to("/etc/passwd")
    (images.path / "parent").symlink_to("../parent")
    assert "pages-1.img" in refused(images, name)


def test_parents_without_end_are_refused(images: Images) -> None:
    name = images.counting()
    images.checkpoint(name)
    (images.path / "parent").symlink_to(".")
    assert "do not end" in refused(images, name)


@pytest.mark.parametrize("file", ["restore.log", "stats-restore"])
def test_a_restore_writes_through_no_link(images: Images, tmp_path: Path, file: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    name = images.counting()
    images.checkpoint(name)
    (images.path / file).symlink_to(victim)
    assert file in refused(images, name)
    (images.path / file).unlink()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / file).symlink_to(victim)
    images.restore(name, "--work-path", tmp_path / "work")
    images.go_on()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("file", ["dump.log", "stats-dump", "descriptors.json"])
def test_a_checkpoint_writes_through_no_link(images: Images, tmp_path: Path, file: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    images.path.mkdir()
    (images.path / file).symlink_to(victim)
    images.checkpoint(images.counting())
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("text", ["", "{}", "[1, 2, 3]", "[" * 100000])
def test_descriptors_that_are_none_are_refused(images: Images, text: str) -> None:
    name = images.counting()
    images.checkpoint(name)
    (images.path / "descriptors.json").write_text(text)
    assert "descriptors.json" in refused(images, name)


def test_a_name_of_a_stream_reaches_no_file_of_the_hosts(images: Images) -> None:
    name = images.counting()
    images.checkpoint(name)
    streams = ["/etc/passwd", "file[0:0]", "pipe:[1]"]
    (images.path / "descriptors.json").write_text(json.dumps(streams))
    images.restore(name)
    images.go_on()
    pid = images.program.pid(name)
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}


def test_capabilities_that_the_bundle_does_not_give_are_refused(
    program: Program, images: Images
) -> None:
    images.bundle.capable("CAP_SYS_ADMIN")
    name = images.counting()
    images.checkpoint(name)
    for kind in ("bounding", "effective", "permitted"):
        images.bundle.process["capabilities"][kind].remove("CAP_SYS_ADMIN")
    assert "capabilities" in refused(images, name)
    images.stands_still()


def test_a_process_that_may_gain_privileges_is_refused(images: Images) -> None:
    name = images.counting()
    images.checkpoint(name)
    images.bundle.process["noNewPrivileges"] = True
    assert "may gain privileges" in refused(images, name)
    images.stands_still()


def test_a_process_without_a_filter_is_refused(images: Images) -> None:
    name = images.counting()
    images.checkpoint(name)
    images.bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
    }
    assert "no seccomp filter" in refused(images, name)
    images.stands_still()


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup"])
def test_a_process_in_a_namespace_of_the_hosts_is_refused(images: Images, kind: str) -> None:
    bundle = images.bundle
    own = [entry for entry in bundle.linux["namespaces"] if entry["type"] != kind]
    bundle.linux["namespaces"], wanted = own, bundle.linux["namespaces"]
    hostname = bundle.config.pop("hostname")
    name = images.running("sh", "-c", COUNTER.replace("$$", "1"))
    images.go_on()
    images.checkpoint(name)
    bundle.linux["namespaces"] = wanted
    bundle.config["hostname"] = hostname
    assert "in the host's" in refused(images, name)
    images.stands_still()


def laxer_volume(bundle: OCIBundle) -> None:
    """Have at the checkpoint a volume that can be written to."""
    bundle.config["mounts"][-1]["options"].remove("ro")


def laxer_tmpfs(bundle: OCIBundle) -> None:
    (shm,) = (one for one in bundle.config["mounts"] if one["destination"] == "/dev/shm")
    shm["options"].remove("noexec")


def laxer_cgroups(bundle: OCIBundle) -> None:
    (cgroup,) = (one for one in bundle.config["mounts"] if one["type"] == "cgroup")
    cgroup["options"] = ["rw"]


def nothing_masked(bundle: OCIBundle) -> None:
    bundle.linux["maskedPaths"] = []


def nothing_protected(bundle: OCIBundle) -> None:
    bundle.linux["readonlyPaths"] = []


def another_mount(bundle: OCIBundle) -> None:
    mount = {"destination": "/extra", "type": "tmpfs", "source": "tmpfs"}
    bundle.config["mounts"].append(mount)


def another_file_system(bundle: OCIBundle) -> None:
    (shm,) = (one for one in bundle.config["mounts"] if one["destination"] == "/dev/shm")
    shm.update(type="mqueue", source="mqueue", options=["nosuid", "noexec", "nodev"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (laxer_volume, "without ro on /volume"),
        (laxer_tmpfs, "another mount on /dev/shm"),
        (laxer_cgroups, "without ro on /sys/fs/cgroup"),
        (nothing_masked, "/proc/keys is not masked"),
        (nothing_protected, "/proc/bus is not read-only"),
        (another_mount, "a mount that it does not have on /extra"),
        (another_file_system, "another mount on /dev/shm"),
    ],
)
def test_mounts_that_are_not_the_bundles_are_refused(
    images: Images, tmp_path: Path, change: Callable[[OCIBundle], None], said: str
) -> None:
    (tmp_path / "volume").mkdir()
    images.bundle.config["root"]["readonly"] = True
    images.bundle.mount("/tmp", images.bundle.root / "tmp")
    images.bundle.mount("/volume", tmp_path / "volume", "ro")
    wanted = copy.deepcopy(images.bundle.config)
    change(images.bundle)
    name = images.counting()
    images.checkpoint(name)
    images.bundle.config = wanted
    assert said in refused(images, name)
    images.stands_still()


def test_the_root_is_read_only_whatever_it_was(program: Program, images: Images) -> None:
    images.bundle.mount("/tmp", images.bundle.root / "tmp")
    name = images.counting()
    images.checkpoint(name)
    images.bundle.config["root"]["readonly"] = True
    images.restore(name)
    images.go_on()
    assert "Read-only file system" in program.refused("exec", name, "touch", "/etc/new")


def test_who_may_mount_may_have_mounted(program: Program, images: Images) -> None:
    images.bundle.capable("CAP_SYS_ADMIN")
    name = images.counting()
    program.ok("exec", name, "mount", "-t", "tmpfs", "tmpfs", "/etc")
    images.checkpoint(name)
    images.restore(name)
    images.go_on()
    assert program.ok("exec", name, "ls", "/etc") == ""


def test_an_annotation_names_no_file_of_options_outside_the_administrators(
    program: Program, images: Images, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    action = tmp_path / "action"
    action.write_text(f"#!/bin/sh\ntouch {witness}\n")
    action.chmod(0o755)
    (tmp_path / "criu.conf").write_text(f"action-script {action}\n")
    images.bundle.config["annotations"] = {"org.criu.config": str(tmp_path / "criu.conf")}
    name = images.counting()
    assert "org.criu.config" in program.refused("checkpoint", "--image-path", images.path, name)
    images.go_on()
    assert not witness.exists()


def test_ids_that_are_mapped_to_others_are_refused(images: Images) -> None:
    linux = images.bundle.linux
    images.bundle.namespace("user")
    mapping = [{"containerID": 0, "hostID": 0, "size": 1 << 16}]
    linux["uidMappings"] = linux["gidMappings"] = mapping
    name = images.counting()
    images.checkpoint(name)
    linux["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1000}]
    assert "mapped to others" in refused(images, name)
    images.stands_still()
