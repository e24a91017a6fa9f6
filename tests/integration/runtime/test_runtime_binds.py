"""Bind mounts: the flags that they get of their source, of their options, and of neither."""

import os
from pathlib import Path

import pytest

from orlop.errors import OrlopError, PermissionDeniedError
from orlop.kernel import mount
from orlop.runtime.options import ATTRIBUTES
from tests.integration.runtime.box import Box

_MAPPING = [{"containerID": 0, "hostID": 200_000, "size": 65536}]


@pytest.fixture
def mapped(box: Box) -> Box:
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = box.linux["gidMappings"] = _MAPPING
    return box


def mounted(box: Box, path: Path, *words: str) -> Path:
    """Mount a tmpfs with the flags *words* at *path*, on the host."""
    path.mkdir(parents=True, exist_ok=True)
    config = mount.fsopen("tmpfs")
    mount.fsconfig_create(config)
    made = mount.fsmount(config, sum(ATTRIBUTES[word][0] for word in words))
    target = os.open(path, os.O_PATH)
    mount.move_mount(made, target)
    box.undo.callback(mount.umount, str(path), mount.Unmount.DETACH)
    for fd in (config, made, target):
        os.close(fd)
    return path


def flags(box: Box, destination: str) -> set[str]:
    """Return the flags that the kernel shows for *destination* in a container of the box's."""
    lines = [line.split() for line in box.sh("cat /proc/self/mountinfo").splitlines()]
    return set(next(line[5] for line in lines if line[4] == destination).split(","))


def test_a_bind_mount_without_flags_has_those_of_its_source(box: Box) -> None:
    source = mounted(box, box.folder / "source", "ro", "nosuid", "nodev", "noexec", "noatime")
    box.mount("/data", str(source))
    assert {"ro", "nosuid", "nodev", "noexec", "noatime"} <= flags(box, "/data")


@pytest.mark.parametrize(
    ("named", "kept", "gone"),
    [
        ("ro", {"ro", "noatime"}, {"nosuid", "nodev", "noexec"}),
        ("exec", {"rw", "noatime"}, {"nosuid", "nodev", "noexec", "ro"}),
        ("noexec", {"rw", "noexec", "noatime"}, {"nosuid", "nodev", "ro"}),
    ],
)
def test_a_bind_mount_with_a_flag_has_no_other_flag_of_its_source(
    box: Box, named: str, kept: set[str], gone: set[str]
) -> None:
    source = mounted(box, box.folder / "source", "ro", "nosuid", "nodev", "noexec", "noatime")
    box.mount("/data", str(source), named)
    found = flags(box, "/data")
    assert kept <= found
    assert not gone & found


def test_flags_of_a_bind_mount_in_a_user_namespace_keep_those_of_its_source(mapped: Box) -> None:
    source = mounted(mapped, mapped.folder / "source", "nosuid", "nodev", "noexec")
    mapped.mount("/data", str(source), "ro")
    assert {"ro", "nosuid", "nodev", "noexec"} <= flags(mapped, "/data")


@pytest.mark.parametrize("place", ["", "sub"])
@pytest.mark.parametrize("word", ["rrw", "rsuid"])
def test_a_user_namespace_takes_no_flag_of_a_source_or_a_mount_below_it_away(
    mapped: Box, place: str, word: str
) -> None:
    source = mapped.folder / "source"
    mounted(mapped, source / place, "ro", "nosuid")
    mapped.mount("/data", str(source), word)
    with pytest.raises(PermissionDeniedError, match=f"user namespace.*'{source}'"):
        mapped.run("true")


@pytest.mark.parametrize("word", ["rw", "suid"])
def test_a_user_namespace_takes_no_flag_of_a_source_away(mapped: Box, word: str) -> None:
    source = mounted(mapped, mapped.folder / "source", "ro", "nosuid")
    mapped.mount("/data", str(source), word)
    with pytest.raises(PermissionDeniedError, match=f"user namespace.*'{source}'"):
        mapped.run("true")


def test_a_user_namespace_may_ask_for_what_its_source_is(mapped: Box) -> None:
    source = mapped.folder / "source"
    source.mkdir(mode=0o777)
    source.chmod(0o777)
    mapped.mount("/data", str(source), "rw", "rsuid")
    mapped.sh("touch /data/file")


@pytest.mark.parametrize("target", ["../run/stub/resolv.conf", "/run/stub/resolv.conf", "other"])
def test_a_file_is_bound_onto_what_a_dangling_link_leads_to(box: Box, target: str) -> None:
    source = box.folder / "source"
    source.write_text("nameserver 192.0.2.1\n")
    (box.lower / "etc/resolv.conf").symlink_to(target)
    box.mount("/etc/resolv.conf", str(source))
    found = box.sh("cat /etc/resolv.conf; readlink /etc/resolv.conf")
    assert found == f"nameserver 192.0.2.1\n{target}\n"


def test_a_dangling_link_to_the_host_is_followed_inside_the_root(box: Box) -> None:
    source = box.folder / "source"
    source.write_text("x")
    outside = box.folder / "outside"
    (box.lower / "etc/link").symlink_to(f"../../../../../../../..{outside}")
    box.mount("/etc/link", str(source))
    assert box.sh(f"cat {outside}") == "x"
    assert not outside.exists()


def test_links_that_lead_to_each_other_are_refused_as_a_destination(box: Box) -> None:
    source = box.folder / "source"
    source.write_text("x")
    (box.lower / "etc/one").symlink_to("two")
    (box.lower / "etc/two").symlink_to("one")
    box.mount("/etc/one", str(source))
    with pytest.raises(OrlopError, match=r"/etc/one.*symbolic links"):
        box.run("true")
