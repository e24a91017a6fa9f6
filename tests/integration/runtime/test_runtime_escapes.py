"""Images and requests that try to get out. Each test fails when its defence is taken away."""

import ctypes
import os
import stat
import time
from pathlib import Path

import pytest

from orlop.errors import CommandNotExecutableError, OrlopError
from orlop.kernel.process import pidfd_send_signal
from tests.integration.runtime.box import Box

RENAME_EXCHANGE = 2


def test_a_dev_that_is_a_link_puts_no_node_outside(box: Box) -> None:
    outside = box.folder / "outside"
    outside.mkdir()
    (box.lower / "dev").symlink_to(f"../../../../..{outside}")
    box.config["mounts"] = [
        m for m in box.config["mounts"] if not m["destination"].startswith("/dev")
    ]
    box.linux["maskedPaths"] = []
    box.run("true")
    assert list(outside.iterdir()) == []


def test_a_dev_mount_on_a_link_stays_inside(box: Box) -> None:
    outside = box.folder / "outside"
    outside.mkdir()
    (box.lower / "dev").symlink_to(outside)
    box.run("true")
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_proc_or_sys_that_is_a_link_is_refused(box: Box, name: str) -> None:
    (box.lower / "fake").mkdir()
    (box.lower / name).symlink_to("fake")
    with pytest.raises(OrlopError, match="symbolic link"):
        box.run("true")


def test_a_null_device_that_is_a_link_masks_nothing_by_it(box: Box) -> None:
    box.config["mounts"] = [
        m for m in box.config["mounts"] if not m["destination"].startswith("/dev")
    ]
    (box.lower / "dev").mkdir()
    (box.lower / "etc/secret").write_text("not the null device")
    (box.lower / "dev/null").symlink_to("/etc/secret")
    assert box.sh("cat /proc/timer_list; stat -c %t:%T /dev/null /proc/timer_list").split() == [
        "1:3",
        "1:3",
    ]


def test_the_cover_of_a_mask_must_be_the_null_device(box: Box) -> None:
    (box.folder / "dev").mkdir()
    (box.folder / "dev/null").write_text("no device")
    for name in ("pts", "shm", "mqueue"):
        (box.folder / "dev" / name).mkdir()
    box.config["mounts"][1] = {
        "destination": "/dev",
        "type": "bind",
        "source": str(box.folder / "dev"),
        "options": ["bind"],
    }
    with pytest.raises(OrlopError, match=r"mask paths.*null device"):
        box.run("true")


def test_root_inside_cannot_change_the_mode_of_a_mask(box: Box) -> None:
    assert box.run("chmod", "666", "/proc/timer_list").status != 0


@pytest.mark.parametrize("number", range(3, 21))
def test_no_descriptor_is_a_working_directory(box: Box, number: int) -> None:
    box.process["cwd"] = f"/proc/self/fd/{number}"
    with pytest.raises(OrlopError, match="enter working directory"):
        box.run("pwd")


def test_exec_has_no_working_directory_outside_either(box: Box) -> None:
    running = box.sleeping()
    for number in (3, 7, 10):
        with pytest.raises(OrlopError, match="enter working directory"):
            box.exec(running, "pwd", cwd=f"/proc/self/fd/{number}")
    with pytest.raises(OrlopError, match="enter working directory"):
        box.exec(running, "pwd", cwd="/proc/1/cwd/../..")


def test_a_working_directory_that_is_a_link_upwards_ends_at_the_root(box: Box) -> None:
    (box.lower / "up").symlink_to("../../../../..")
    box.process["cwd"] = "/up"
    assert box.sh("pwd -P") == "/\n"


def test_only_the_standard_streams_are_open(box: Box) -> None:
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        assert box.run("ls", "/proc/self/fd").output.split() == [
            "0",
            "1",
            "2",
            "3",
        ]  # 3 is ls's own
        running = box.sleeping()
        assert sorted(os.listdir(f"/proc/{running.pid}/fd"), key=int) == ["0", "1", "2"]
        assert box.exec(running, "ls", "/proc/self/fd").output.split() == ["0", "1", "2", "3"]
    finally:
        os.close(leak)


@pytest.mark.parametrize(
    "entrypoint", ["/proc/self/exe", "/bin/x-script", "/bin/x-nested", "/bin/x-link"]
)
def test_the_hosts_interpreter_never_runs_inside(box: Box, entrypoint: str) -> None:
    (box.lower / "bin/x-script").write_text("#!/proc/self/exe -c\n")
    (box.lower / "bin/x-nested").write_text("#! /bin/x-script\n")
    (box.lower / "bin/x-link").symlink_to("/proc/1/exe")
    for name in ("x-script", "x-nested"):
        (box.lower / "bin" / name).chmod(0o755)
    with pytest.raises(CommandNotExecutableError, match="permission denied"):
        box.run(entrypoint)


@pytest.mark.parametrize(
    "destination", ["/../../../../escape", "/link/escape", "/etc/../../../escape", "/a/../link/x"]
)
def test_a_destination_stays_inside(box: Box, destination: str) -> None:
    outside = box.folder / "outside"
    outside.mkdir()
    (box.lower / "link").symlink_to(f"../../../../../..{outside}")
    (box.lower / "a").mkdir()
    box.config["mounts"].append(
        {"destination": destination, "type": "tmpfs", "source": "t", "options": []}
    )
    box.sh("true")
    assert list(outside.iterdir()) == []
    assert not Path("/escape").exists()


def test_a_destination_that_is_a_dangling_link_is_made_inside(box: Box) -> None:
    outside = box.folder / "outside"
    (box.lower / "link").symlink_to(outside)
    box.config["mounts"].append(
        {"destination": "/link/sub", "type": "tmpfs", "source": "t", "options": []}
    )
    box.sh("touch /link/sub/x")
    assert not outside.exists()


def test_a_user_file_that_never_ends_is_not_read(box: Box) -> None:
    (box.lower / "etc/passwd").unlink()
    (box.lower / "etc/passwd").symlink_to("/dev/zero")
    (box.lower / "etc/group").unlink()
    os.mkfifo(box.lower / "etc/group")
    box.process["user"] = {"username": "5:6"}
    assert "Uid:\t5\t5\t5\t5" in box.run("cat", "/proc/self/status").output


def test_a_passwd_that_links_outside_is_read_inside(box: Box) -> None:
    secret = box.folder / "passwd"
    secret.write_text("spy:x:1234:1234::/:/bin/sh\n")
    (box.lower / "etc/passwd").unlink()
    (box.lower / "etc/passwd").symlink_to(secret)
    box.process["user"] = {"username": "spy"}
    with pytest.raises(OrlopError, match="unable to find user spy"):
        box.run("id")


def test_a_destination_swapped_all_the_time_is_never_outside(box: Box) -> None:
    """A volume in which a folder and a link upwards change places, as fast as they can."""
    volume, outside = box.folder / "volume", box.folder / "outside"
    (volume / "a").mkdir(parents=True)
    outside.mkdir()
    (volume / "b").symlink_to(f"../../../../../../..{outside}")
    swapper = swap_forever(volume / "a", volume / "b")
    box.mount("/volume", str(volume))
    box.config["mounts"].append(
        {"destination": "/volume/a/inner", "type": "tmpfs", "source": "t", "options": []}
    )
    tries = {"good": 0, "refused": 0}
    try:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            try:
                box.run("true")
                tries["good"] += 1
            except OrlopError:
                tries["refused"] += 1
            assert list(outside.iterdir()) == []
    finally:
        os.kill(swapper, 9)
        os.waitpid(swapper, 0)
    assert tries["good"] > 0


def swap_forever(one: Path, other: Path) -> int:
    """Start a process that exchanges two names until it is killed; its pid."""
    pid = os.fork()
    if pid:
        return pid
    libc = ctypes.CDLL(None)
    first, second = os.fsencode(one), os.fsencode(other)
    while True:
        libc.renameat2(-100, first, -100, second, RENAME_EXCHANGE)


def test_a_device_of_the_image_is_replaced_by_the_real_one(box: Box) -> None:
    box.config["mounts"] = [
        m for m in box.config["mounts"] if not m["destination"].startswith("/dev")
    ]
    (box.lower / "dev").mkdir()
    os.mknod(box.lower / "dev/zero", stat.S_IFCHR | 0o666, os.makedev(1, 1))
    assert box.sh("stat -c %t:%T /dev/zero").strip() == "1:5"


def test_a_container_cannot_signal_or_see_the_host(box: Box) -> None:
    assert box.run("kill", "-0", str(os.getpid() + 100_000)).status != 0
    running = box.sleeping()
    pidfd_send_signal(running.pidfd, 0)
    assert box.exec(running, "ls", "/proc").output.count(str(os.getpid())) == 0


def test_the_hosts_null_device_is_not_a_containers_to_change(box: Box) -> None:
    mode = os.stat(os.devnull).st_mode
    try:
        box.sh("chmod 640 /proc/self/fd/0")
        assert os.stat(os.devnull).st_mode == mode
    finally:
        os.chmod(os.devnull, stat.S_IMODE(mode))
