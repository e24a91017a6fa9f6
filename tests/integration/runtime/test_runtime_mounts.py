"""Mounts: options, propagation, destinations, masks."""

import errno
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import OrlopError
from orlop.kernel import mount
from orlop.model.mount import Mount
from orlop.runtime import overlay
from orlop.runtime.options import ATTRIBUTES
from orlop.runtime.plan import warnings
from tests.integration.runtime.box import Box


def options(box: Box, destination: str, script: str = "") -> set[str]:
    """Return the per-mount options that the kernel shows for *destination*."""
    text = box.sh(f"{script}\ncat /proc/self/mountinfo")
    lines = [line.split() for line in text.splitlines() if line.count(" ") > 8]
    return set([line for line in lines if line[4] == destination][-1][5].split(","))


def test_the_usual_mounts_are_there_with_their_options(box: Box) -> None:
    assert {"nosuid", "nodev", "noexec"} <= options(box, "/proc")
    assert {"ro", "nosuid", "nodev", "noexec"} <= options(box, "/sys")


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("ro", "ro"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("noatime", "noatime"),
        ("nodiratime", "nodiratime"),
        ("nosymfollow", "nosymfollow"),
    ],
)
def test_a_bind_mount_gets_its_option(box: Box, word: str, shown: str) -> None:
    source = box.folder / "source"
    source.mkdir()
    box.mount("/data", str(source), word)
    assert shown in options(box, "/data")


def test_strictatime_takes_relatime_away(box: Box) -> None:
    box.config["mounts"].append(
        {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["strictatime"]}
    )
    assert "relatime" not in options(box, "/t")


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
        ("rnosymfollow", "nosymfollow"),
    ],
)
def test_a_recursive_option_reaches_mounts_below(box: Box, word: str, shown: str) -> None:
    tree(box, "tmpfs")
    box.mount("/tree", str(box.folder / "tree"), word)
    found = box.sh("cat /proc/self/mountinfo")
    for mounted in ("/tree", "/tree/sub"):
        fields = next(line.split() for line in found.splitlines() if f" {mounted} " in line)
        assert shown in fields[5].split(",")


@pytest.mark.parametrize("word", ["rrw", "rsuid", "rdev", "rexec", "ratime", "rsymfollow"])
def test_a_recursive_option_is_taken_back_everywhere(box: Box, word: str) -> None:
    opposite = {"rrw": "ro", "ratime": "noatime"}.get(word, f"no{word[1:]}")
    tree(box, "tmpfs", opposite)
    box.mount("/tree", str(box.folder / "tree"), word)
    found = box.sh("cat /proc/self/mountinfo")
    fields = next(line.split() for line in found.splitlines() if " /tree/sub " in line)
    assert opposite not in fields[5].split(",")


def tree(box: Box, *options: str) -> None:
    """Give *box* a folder with a mount in it, which another mount of its own will show."""
    sub = box.folder / "tree/sub"
    sub.mkdir(parents=True)
    fd = mount.fsopen(options[0])
    mount.fsconfig_create(fd)
    made = mount.fsmount(fd)
    os.close(fd)
    target = os.open(sub, os.O_PATH)
    mount.move_mount(made, target)
    box.undo.callback(mount.umount, str(sub), mount.Unmount.DETACH)
    attributes, cleared = ATTRIBUTES[options[1]] if options[1:] else (0, 0)
    mount.mount_setattr(made, set_=attributes, clear=cleared)
    os.close(made)
    os.close(target)


@pytest.mark.parametrize("recursive", [False, True])
def test_rro_reaches_mounts_below_and_ro_does_not(box: Box, *, recursive: bool) -> None:
    box.mount("/hostdev", "/dev", "rro" if recursive else "ro")
    assert "ro" in options(box, "/hostdev")
    assert ("ro" in options(box, "/hostdev/shm")) is recursive


def test_a_plain_bind_leaves_out_mounts_below(box: Box) -> None:
    box.config["mounts"].append(
        {"destination": "/hostdev", "type": "bind", "source": "/dev", "options": ["bind"]}
    )
    assert box.sh("grep -c /hostdev/shm /proc/self/mountinfo || true").strip() == "0"


def test_a_file_is_bound_onto_a_file_that_is_made(box: Box) -> None:
    source = box.folder / "file"
    source.write_text("hello")
    box.mount("/new/folder/file", str(source), "ro")
    assert box.sh("cat /new/folder/file") == "hello"


def test_a_type_means_nothing_for_a_bind_mount(box: Box) -> None:
    source = box.folder / "source"
    source.mkdir(mode=0o711)
    (box.lower / "data").mkdir(mode=0o777)
    for kind in ("tmpfs", "proc", "cgroup"):
        entry: Any = {"destination": "/data", "type": kind, "source": str(source)}
        entry["options"] = ["bind"]
        box.config["mounts"].append(entry)
    box.linux["sysctl"] = {"kernel.msgmax": "4096"}
    assert box.sh("stat -c %a /data; cat /proc/sys/kernel/msgmax").split() == ["711", "4096"]
    assert stat.S_IMODE(source.stat().st_mode) == 0o711


def test_tmpcopyup_fills_the_tmpfs_from_the_image(box: Box) -> None:
    (box.lower / "data/sub").mkdir(parents=True)
    (box.lower / "data/sub/file").write_text("kept")
    (box.lower / "data/link").symlink_to("sub/file")
    os.chown(box.lower / "data/sub/file", 5, 6)
    os.chmod(box.lower / "data", 0o1750)
    box.config["mounts"].append(
        {"destination": "/data", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "ro"]}
    )
    output = box.sh("cat /data/link; stat -c '%u %g' /data/sub/file; stat -c %a /data")
    assert output.split() == ["kept5", "6", "1750"]
    assert "ro" in options(box, "/data")


def test_tmpcopyup_refuses_what_it_would_copy_in_part(box: Box) -> None:
    (box.lower / "data" / "/".join("d" * 70)).mkdir(parents=True)
    box.config["mounts"].append(
        {"destination": "/data", "type": "tmpfs", "source": "t", "options": ["tmpcopyup"]}
    )
    with pytest.raises(OrlopError, match="nested too deeply"):
        box.run("true")


def test_a_tmpfs_takes_the_mode_of_what_it_covers_and_its_size(box: Box) -> None:
    (box.lower / "t").mkdir(mode=0o711)
    box.config["mounts"].append(
        {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["size=128k"]}
    )
    assert box.sh("stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'").split() == ["711", "128"]
    assert {"mode=711", "size=128k"} <= {*box.sh("grep ' /t ' /proc/mounts").split()[3].split(",")}


@pytest.mark.parametrize("destination", ["/tmp", "/new"])
@pytest.mark.parametrize("words", [["ro"], ["rro", "mode=711"]])
def test_a_tmpfs_may_be_read_only_from_the_start(
    box: Box, destination: str, words: list[str]
) -> None:
    box.config["mounts"].append(
        {"destination": destination, "type": "tmpfs", "source": "t", "options": words}
    )
    assert "ro" in options(box, destination)


def test_a_read_only_root_refuses_writes_and_its_mounts_do_not(box: Box) -> None:
    box.config["root"] = {"path": "unused", "readonly": True}
    assert box.run("touch", "/x").status != 0
    assert box.run("touch", "/dev/shm/x").status == 0


def test_a_root_that_is_a_folder_is_used_as_it_is(box: Box) -> None:
    box.config["root"] = {"path": str(box.lower)}
    box.__class__ = type("Plain", (Box,), {"rootfs": ()})
    box.sh("echo hi > /written")
    assert (box.lower / "written").read_text() == "hi\n"


def test_layers_can_be_mounts_that_are_in_no_namespace(box: Box) -> None:
    run_on_erofs(box)


def run_on_erofs(box: Box) -> None:
    image = box.folder / "image.erofs"
    (box.folder / "extra").mkdir()
    (box.folder / "extra/file").write_text("from erofs")
    assert (
        os.spawnlp(
            os.P_WAIT, "mkfs.erofs", "mkfs.erofs", "--quiet", str(image), str(box.folder / "extra")
        )
        == 0
    )
    rootfs = (
        Mount("erofs", str(image), "", ("ro",)),
        Mount(
            "overlay",
            "overlay",
            "/",
            (
                "lowerdir+=mount:0",
                f"lowerdir+={box.lower}",
                f"upperdir={box.upper}",
                f"workdir={box.folder / 'work'}",
                "volatile",
            ),
        ),
    )
    box.__class__ = type("Layered", (Box,), {"rootfs": rootfs})
    assert box.sh("cat /file; echo new > /file; cat /file") == "from erofsnew\n"
    assert (box.upper / "file").read_text() == "new\n"


def before(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse what kernels before *version* do not know; the child inherits it."""

    def no_descriptors(fd: int, key: str, value: int) -> None:
        raise OSError(errno.EINVAL, f"{fd} {key} {value}")

    def no_lists(fd: int, key: str, value: str) -> None:
        if key == "lowerdir+":
            raise OSError(errno.EINVAL, "no lowerdir+")
        mount.fsconfig_string(fd, key, value)

    monkeypatch.setattr(overlay, "fsconfig_fd", no_descriptors)
    if version == "6.5":
        monkeypatch.setattr(overlay, "fsconfig_string", no_lists)


@pytest.mark.parametrize("version", ["6.13", "6.5"])
def test_overlay_works_as_on_an_older_kernel(
    box: Box, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before(version, monkeypatch)
    (box.lower / "old").write_text("old")
    assert box.sh("cat /old; echo new > /old; cat /old") == "oldnew\n"
    assert (box.upper / "old").read_text() == "new\n"


def test_layers_are_attached_where_the_kernel_wants_that(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object) -> int:
        if not attached:
            raise OSError(errno.EINVAL, "detached layers")
        return plain(*args)  # type: ignore[arg-type] # whatever came in

    def attach(source: int, target: int) -> None:
        attached.append(source)
        mount.move_mount(source, target)

    attached: list[int] = []
    plain = overlay._overlay
    monkeypatch.setattr(overlay, "_overlay", refused)
    monkeypatch.setattr(overlay, "move_mount", attach)
    before("6.13", monkeypatch)
    run_on_erofs(box)


def test_layer_paths_may_be_long(box: Box) -> None:
    deep = box.folder
    for _ in range(4):
        deep = deep / ("d" * 80)
    deep.parent.mkdir(parents=True)
    box.lower.rename(deep)
    box.lower = deep
    assert box.sh("echo long") == "long\n"


def test_masked_paths_are_empty_and_read_only(box: Box) -> None:
    output = box.sh("ls /sys/firmware; cat /proc/timer_list; stat -c '%t:%T' /proc/timer_list")
    assert output == "1:3\n"
    assert "ro" in options(box, "/proc/timer_list")
    assert "ro" in options(box, "/sys/firmware")


def test_readonly_paths_are_read_only(box: Box) -> None:
    assert "ro" in options(box, "/proc/sys")
    assert box.run("sh", "-c", "echo x > /proc/sys/kernel/domainname").status != 0


def test_devices_are_there_and_no_others(box: Box) -> None:
    box.linux["devices"] = [
        {"type": "c", "path": "/dev/extra", "major": 1, "minor": 3, "fileMode": 0o640, "gid": 5}
    ]
    names = set(box.sh("ls /dev").split())
    links = {"fd", "stdin", "stdout", "stderr", "ptmx"}
    nodes = {"null", "zero", "full", "random", "urandom", "tty", "extra"}
    assert names == links | nodes | {"pts", "shm", "mqueue"}
    assert box.sh("stat -c '%a %g %t:%T' /dev/extra").strip() == "640 5 1:3"
    assert box.sh("echo gone > /dev/null; head -c 3 /dev/zero | wc -c").strip() == "3"


def test_a_bind_source_that_is_missing_is_named(box: Box) -> None:
    box.mount("/x", "/no/such/source")
    with pytest.raises(OrlopError, match=r"make mounts.*/no/such/source"):
        box.run("true")


def test_nothing_of_the_host_is_mounted_inside(box: Box) -> None:
    mounted = {line.split()[4] for line in box.sh("cat /proc/self/mountinfo").splitlines()}
    expected = {"/", "/proc", "/dev", "/dev/pts", "/sys", "/dev/mqueue", "/dev/shm"}
    assert {m for m in mounted if not m.startswith(("/proc/", "/sys/"))} == expected - {""}


def test_made_files_and_folders_have_sensible_modes(box: Box) -> None:
    box.config["mounts"].append(
        {"destination": "/a/b", "type": "tmpfs", "source": "t", "options": []}
    )
    box.sh("true")
    assert stat.S_IMODE((box.upper / "a").stat().st_mode) == 0o755
    assert not Path("/a/b").exists()


@pytest.mark.parametrize(
    ("source", "destination", "words"),
    [("/etc/passwd", "/tmp", "a file cannot be mounted on a folder"),
     ("/tmp", "/etc/passwd", "a folder cannot be mounted on a file")],
)  # fmt: skip
def test_a_file_and_a_folder_are_not_mounted_on_each_other(
    box: Box, source: str, destination: str, words: str
) -> None:
    box.mount(destination, source)
    with pytest.raises(OrlopError, match=rf"{source}.*{destination}.*{words}"):
        box.run("true")


def test_a_recursive_option_is_good_for_a_new_file_system_too(box: Box) -> None:
    box.config["mounts"].append(
        {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["rro", "rnosymfollow"]}
    )
    assert {"ro", "nosymfollow"} <= options(box, "/t")


def test_remount_changes_a_mount_that_is_there_and_its_file_system(box: Box) -> None:
    box.config["mounts"] += [
        {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["size=64k"]},
        {"destination": "/t", "type": "tmpfs", "options": ["remount", "size=128k", "noexec"]},
        {"destination": "/dev/shm", "options": ["remount", "bind", "ro"]},
    ]
    assert box.sh("df -k /t | tail -1 | awk '{print $2}'").strip() == "128"
    assert "noexec" in options(box, "/t")
    assert "ro" in options(box, "/dev/shm")


def test_a_read_only_dev_has_its_devices_all_the_same(box: Box) -> None:
    dev: Any = next(m for m in box.config["mounts"] if m["destination"] == "/dev")
    dev["options"].append("ro")
    assert "ro" in options(box, "/dev", "echo > /dev/null; ! touch /dev/x 2> /dev/null")


@pytest.mark.parametrize("word", ["ro", "rbind"])
def test_a_remount_of_what_is_no_mount_is_refused(box: Box, word: str) -> None:
    box.config["mounts"].append({"destination": "/etc", "options": ["remount", word]})
    with pytest.raises(OrlopError, match="'/etc'"):
        box.run("true")


def test_a_bind_mount_ignores_options_of_a_file_system(box: Box) -> None:
    box.mount("/data", "/etc", "sync", "size=64k", "ro")
    assert "ro" in options(box, "/data")
    (warning,) = warnings(box.config)
    assert "mounts[7]: options size " in warning


def test_an_id_mapped_mount_without_mappings_is_refused(box: Box) -> None:
    box.mount("/data", "/etc", "idmap")
    with pytest.raises(OrlopError, match=r"mounts\[7\].*mappings"):
        box.run("true")


def test_only_bind_mounts_have_id_mappings(box: Box) -> None:
    mapping = [{"containerID": 0, "hostID": 4000, "size": 100}]
    entry: Any = {"destination": "/t", "type": "tmpfs", "source": "t"}
    entry.update(uidMappings=mapping, gidMappings=mapping)
    box.config["mounts"].append(entry)
    with pytest.raises(OrlopError, match=r"mounts\[7\].*bind mount"):
        box.run("true")


@pytest.mark.parametrize("word", ["idmap", "ridmap"])
def test_id_mappings_reach_mounts_below_where_asked(box: Box, word: str) -> None:
    tree(box, "tmpfs")
    mapping = [{"containerID": 0, "hostID": 4000, "size": 100}]
    box.mount("/tree", str(box.folder / "tree"), word)
    entry: Any = box.config["mounts"][-1]
    entry.update(uidMappings=mapping, gidMappings=mapping)
    assert box.sh("stat -c %u /tree /tree/sub").split() == [
        "4000",
        "4000" if word[0] == "r" else "0",
    ]


def test_a_relative_destination_is_beneath_the_root_and_warned_of(box: Box) -> None:
    entry: Any = {"destination": "some/where", "type": "tmpfs", "source": "t"}
    box.config["mounts"].append(entry)
    assert "rw" in options(box, "/some/where")
    assert ["mounts[7].destination 'some/where'" in text for text in warnings(box.config)] == [True]


def test_a_source_may_be_relative_to_the_bundle_and_a_link(box: Box) -> None:
    (box.folder / "file").write_text("hello")
    (box.folder / "link").symlink_to("file")
    box.config["root"] = {"path": str(box.lower)}
    box.__class__ = type("Plain", (Box,), {"rootfs": ()})
    box.mount("/file", "./link")
    assert box.sh("cat /file") == "hello"


def test_a_file_system_on_a_read_only_device_is_mounted_read_only(box: Box) -> None:
    image = box.folder / "image"
    (box.folder / "extra").mkdir()
    (box.folder / "extra/file").write_text("on ext4")
    quiet = ["mke2fs", "-q", "-t", "ext4", "-d", str(box.folder / "extra"), str(image), "2M"]
    subprocess.run(quiet, check=True)
    found = subprocess.run(
        ["losetup", "--read-only", "--find", "--show", image], check=True, capture_output=True
    )
    device = found.stdout.decode().strip()
    box.undo.callback(subprocess.run, ["losetup", "--detach", device], check=True)
    box.config["mounts"].append(
        {"destination": "/disk", "type": "ext4", "source": device, "options": ["ro"]}
    )
    assert box.sh("cat /disk/file") == "on ext4"


def test_proc_of_the_hosts_processes_is_shown_to_a_user_namespace(box: Box) -> None:
    mapping = [{"containerID": 0, "hostID": 200_000, "size": 65536}]
    kinds = [n for n in box.linux["namespaces"] if n["type"] != "pid"]
    box.linux["namespaces"] = [*kinds, {"type": "user"}]
    box.linux["uidMappings"] = box.linux["gidMappings"] = mapping
    del box.linux["maskedPaths"], box.linux["readonlyPaths"]
    assert box.sh("readlink /proc/self").strip() != "1"
