"""Mounts are made in the order of the bundle, and later ones find what earlier ones made."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.oci_runtime.program import OCIBundle, Program

_MAPPING = [{"containerID": 0, "hostID": 200_000, "size": 65536}]


@pytest.fixture
def nested(bundle: OCIBundle, tmp_path: Path) -> OCIBundle:
    """Return a bundle with three folders that are bound one into the other, below /mnt."""
    for name, inside in (("a", "x"), ("b", "y"), ("c", "z")):
        folder = tmp_path / "source" / name / inside
        folder.mkdir(parents=True)
        (folder / "file").write_text(f"in {name}\n")
    for destination, name in (("/mnt", "a"), ("/mnt/x", "b"), ("/mnt/x/y", "c")):
        bundle.mount(destination, tmp_path / "source" / name)
    return bundle


READ = "cat /final/x/y/z/file"


@pytest.mark.parametrize("made", [True, False], ids=["folder", "no-folder"])
def test_a_bind_source_may_be_what_earlier_mounts_have_put_into_the_root(
    program: Program, nested: OCIBundle, *, made: bool
) -> None:
    if made:
        (nested.root / "mnt").mkdir()
    nested.mount("/final", "rootfs/mnt")
    assert program.sh(nested, READ) == "in c\n"
    nested.config["mounts"][-1]["source"] = str(nested.root / "mnt/x/../x/y")
    assert program.sh(nested, "cat /final/z/file") == "in c\n"


def test_hooks_and_a_given_mount_namespace_do_not_change_the_order(
    program: Program, nested: OCIBundle
) -> None:
    nested.mount("/final", "rootfs/mnt")
    nested.config["hooks"] = {"createContainer": [{"path": "/bin/true"}]}
    assert program.sh(nested, READ) == "in c\n"


def test_a_bind_source_in_the_root_may_be_seen_in_a_user_namespace(
    program: Program, nested: OCIBundle
) -> None:
    nested.namespace("user")
    nested.linux["uidMappings"] = nested.linux["gidMappings"] = _MAPPING
    subprocess.run(["chown", "-hR", "200000:200000", nested.root], check=True)
    nested.mount("/final", "rootfs/mnt")
    nested.mount("/final2", "rootfs/mnt", "ro")
    assert program.sh(nested, f"{READ}; cat /final2/x/y/z/file") == "in c\nin c\n"


def test_a_source_that_no_earlier_mount_makes_is_the_hosts(
    program: Program, nested: OCIBundle
) -> None:
    (nested.root / "link").symlink_to(nested.folder)
    nested.mount("/final", "rootfs/link")
    assert "config.json" in program.sh(nested, "ls /final")
    nested.config["mounts"].insert(0, nested.config["mounts"].pop())
    nested.config["mounts"][0]["source"] = "rootfs/mnt/x"
    message = program.refused("run", "--bundle", nested.write(), program.id())
    assert "rootfs/mnt/x" in message
    assert "no such file or directory" in message


def test_a_link_to_the_host_is_followed_inside_the_root_by_a_later_mount(
    program: Program, nested: OCIBundle, tmp_path: Path
) -> None:
    (tmp_path / "source/a/leads").symlink_to("/etc")
    nested.mount("/final", "rootfs/mnt/leads")
    assert program.sh(nested, "cat /final/passwd").startswith("root:x:0:0::/root:/bin/sh\nalice")


def test_a_source_that_is_to_be_id_mapped_cannot_be_of_an_earlier_mount(
    program: Program, nested: OCIBundle
) -> None:
    nested.mount("/final", "rootfs/mnt")
    entry = nested.config["mounts"][-1]
    entry["uidMappings"] = entry["gidMappings"] = _MAPPING
    message = program.refused("run", "--bundle", nested.write(), program.id())
    assert "what an earlier mount has made cannot be id-mapped" in message


def test_a_container_with_a_bind_mount_of_an_earlier_one_is_not_checkpointed(
    program: Program, nested: OCIBundle, tmp_path: Path
) -> None:
    nested.mount("/final", "rootfs/mnt")
    name = program.running(nested)
    message = program.refused("checkpoint", "--image-path", tmp_path / "images", name)
    assert "cannot checkpoint a bind mount of what an earlier mount made" in message
    assert program.state(name)["status"] == "running"
