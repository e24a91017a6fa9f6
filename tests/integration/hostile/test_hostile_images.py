"""Images that try to reach the host. Each case is an escape that happened elsewhere."""

import contextlib
import os
import tarfile
from pathlib import Path

import pytest

from tests.crafting import add
from tests.integration.hostile.conftest import Hostile


def tripwire(tmp_path: Path) -> Path:
    """A folder on the host that nothing may be written to."""
    folder = tmp_path / "outside"
    folder.mkdir(exist_ok=True)
    return folder


def test_symlinks_of_a_layer_do_not_lead_the_next_layer_out(
    hostile: Hostile, tmp_path: Path
) -> None:
    outside = tripwire(tmp_path)

    def bait(tar: tarfile.TarFile) -> None:
        add(tar, "door", tarfile.SYMTYPE, linkname=str(outside))

    def through(tar: tarfile.TarFile) -> None:
        add(tar, "door/planted", data=b"x")
        add(tar, "door/.wh.kept")

    (outside / "kept").write_text("mine")
    hostile.run(hostile.image(bait, through), "true")
    assert os.listdir(outside) == ["kept"]


@pytest.mark.parametrize("name", ["../planted", "/../../planted", "a/../../../planted"])
def test_names_that_climb_stay_inside_or_are_refused(
    hostile: Hostile, tmp_path: Path, name: str
) -> None:
    def climb(tar: tarfile.TarFile) -> None:
        add(tar, name, data=b"x")

    before = sorted(os.listdir("/"))
    with contextlib.suppress(AssertionError):  # refused
        hostile.run(hostile.image(climb), "true")
    assert sorted(os.listdir("/")) == before
    assert not list(hostile.engine.root.rglob("planted")) or all(
        "snapshots" in str(path) for path in hostile.engine.root.rglob("planted")
    )


def test_dev_that_is_a_symlink_does_not_place_devices_outside(
    hostile: Hostile, tmp_path: Path
) -> None:
    outside = tripwire(tmp_path)

    def swap(tar: tarfile.TarFile) -> None:
        add(tar, ".wh.dev")
        add(tar, "dev", tarfile.SYMTYPE, linkname=f"/../..{outside}")

    hostile.run(hostile.image(swap), "true")
    assert os.listdir(outside) == []


@pytest.mark.parametrize("place", ["proc", "sys"])
def test_proc_and_sys_that_are_symlinks_are_refused_or_contained(
    hostile: Hostile, place: str
) -> None:
    def swap(tar: tarfile.TarFile) -> None:
        add(tar, f".wh.{place}")
        add(tar, "decoy", tarfile.DIRTYPE)
        add(tar, place, tarfile.SYMTYPE, linkname="/decoy")

    said = hostile.run(hostile.image(swap), "cat", "/decoy/sys/kernel/core_pattern")
    assert Path("/proc/sys/kernel/core_pattern").read_text().strip() not in said


def test_dev_null_of_the_image_is_not_what_masks_paths(hostile: Hostile) -> None:
    def swap(tar: tarfile.TarFile) -> None:
        add(tar, "dev", tarfile.DIRTYPE)
        add(tar, "dev/null", tarfile.SYMTYPE, linkname="/proc/sys/kernel/core_pattern")

    said = hostile.run(hostile.image(swap), "stat", "-c", "%F %t:%T", "/proc/kcore")
    assert "1:3" in said or "No such file" in said


@pytest.mark.parametrize("user", ["2147483648", "4294967295", "4294967296:0", "-1", "0x0", "1:-1"])
def test_user_ids_that_wrap_are_refused(hostile: Hostile, user: str) -> None:
    image = hostile.image(config={"User": user})
    hostile.refused(image, "id")


def test_a_user_name_of_the_image_cannot_stand_for_an_id_that_wraps(hostile: Hostile) -> None:
    def passwd(tar: tarfile.TarFile) -> None:
        add(tar, "etc", tarfile.DIRTYPE)
        add(tar, "etc/passwd", data=b"evil:x:4294967296:0::/:/bin/sh\n")

    hostile.refused(hostile.image(passwd, config={"User": "evil"}), "id")


def test_passwd_that_is_a_symlink_is_read_inside_the_container(
    hostile: Hostile, tmp_path: Path
) -> None:
    secret = tripwire(tmp_path) / "passwd"
    secret.write_text("insider:x:4242:4242::/:/bin/sh\n")

    def swap(tar: tarfile.TarFile) -> None:
        add(tar, "etc", tarfile.DIRTYPE)
        add(tar, "etc/passwd", tarfile.SYMTYPE, linkname=f"../../../..{secret}")

    assert "4242" not in hostile.run(hostile.image(swap, config={"User": "insider"}), "id")


def test_a_volume_path_that_climbs_is_contained(hostile: Hostile) -> None:
    image = hostile.image(config={"Volumes": {"/../../etc": {}}})
    said = hostile.run(image, "cat", "/etc/shadow")
    shadow = Path("/etc/shadow")
    assert not shadow.exists() or shadow.read_text().splitlines()[0] not in said


def test_a_volume_on_a_symlink_copies_nothing_of_the_host(hostile: Hostile, tmp_path: Path) -> None:
    (tripwire(tmp_path) / "secret").write_text("of the host")

    def swap(tar: tarfile.TarFile) -> None:
        add(tar, "data", tarfile.SYMTYPE, linkname=f"../../../../..{tmp_path}/outside")

    image = hostile.image(swap, config={"Volumes": {"/data": {}}})
    assert "of the host" not in hostile.run(image, "cat", "/data/secret")


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20])
def test_a_working_directory_in_a_leaked_descriptor_leads_nowhere(
    hostile: Hostile, number: int
) -> None:
    image = hostile.image(config={"WorkingDir": f"/proc/self/fd/{number}"})
    said = hostile.run(image, "ls", "../../../../etc/hostname-of-host", "-d")
    assert "hostname-of-host" not in said or "No such file" in said or "Error" in said
    assert Path("/etc/debian_version").exists()
    assert "/etc/debian_version" not in hostile.run(
        image, "find", "../../../etc/debian_version", "-maxdepth", "0"
    ).replace("find: ../../../etc/debian_version", "")


def test_an_entry_point_of_proc_self_exe_cannot_reach_the_interpreter(hostile: Hostile) -> None:
    def script(tar: tarfile.TarFile) -> None:
        add(tar, "bin/evil", data=b"#!/proc/self/exe\n", mode=0o755)

    image = hostile.image(script, config={"Entrypoint": ["/bin/evil"]})
    said = hostile.run(image)
    assert "Python" not in said
    assert "Traceback" not in said


def test_labels_and_annotations_change_nothing_of_how_a_container_runs(hostile: Hostile) -> None:
    labels = {
        "io.containerd.restart.loguri": "binary:///bin/sh?-c=touch%20/tmp/orlop-owned",
        "io.kubernetes.cri-o.userns-mode": "auto",
        "run.oci.keep_original_groups": "1",
        "org.systemd.property.ExecStart": "'/bin/true'",
    }
    plain, labelled = hostile.image(), hostile.image(config={"Labels": labels})
    look = ("cat", "/proc/self/status", "/proc/self/mountinfo", "/proc/self/cgroup")
    plain_said, labelled_said = hostile.run(plain, *look), hostile.run(labelled, *look)
    assert _shape(plain_said) == _shape(labelled_said)
    assert not Path("/tmp/orlop-owned").exists()


def _shape(text: str) -> list[str]:
    wanted = ("Uid", "Gid", "Cap", "Seccomp", "NoNewPrivs", "Groups")
    return [line for line in text.splitlines() if line.startswith(wanted)]


def test_a_configuration_nested_without_end_is_refused(hostile: Hostile) -> None:
    deep: object = {}
    for _ in range(500):
        deep = {"a": deep}
    with pytest.raises(AssertionError, match=r"nested|JSON|deep"):
        hostile.image(config={"Labels": {}, "Extra": deep})


def test_a_huge_configuration_is_refused(hostile: Hostile) -> None:
    with pytest.raises(AssertionError, match="large"):
        hostile.image(config={"Labels": {"big": "x" * (9 << 20)}})
