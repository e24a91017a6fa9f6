"""Images, volumes and callers' leftovers that would lead `orlop-runtime` out of a root.

What the library refuses by itself is in tests/integration/runtime/test_runtime_escapes.py.
Here is what the program adds: descriptors it was started with, its state folder,
its sockets and files, and containers that work against each other.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.oci_runtime.program import OCIBundle, Program, wait_for
from tests.integration.runtime.test_runtime_escapes import RENAME_EXCHANGE, swap_forever

RACE_S = 4
NULL = subprocess.DEVNULL


@pytest.fixture
def leak(tmp_path: Path) -> Iterator[list[int]]:
    """Descriptors of the host's root, which whoever starts us has left open and inheritable."""
    fds = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(8)]
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host's in which nothing may appear."""
    folder = tmp_path / "outside"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(params=["at once", "late"])
def entered(request: pytest.FixtureRequest, bundle: OCIBundle) -> OCIBundle:
    """A bundle whose root is entered before what is in it is resolved; or after, for hooks."""
    if request.param == "late":
        bundle.config["hooks"] = {"createContainer": [{"path": "/bin/true"}]}
    return bundle


@contextlib.contextmanager
def swapped(one: Path, other: Path) -> Iterator[None]:
    """Exchange two names as fast as can be."""
    pid = swap_forever(one, other)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_no_descriptor_of_the_callers_is_a_working_directory(
    program: Program, entered: OCIBundle, leak: list[int]
) -> None:
    for number in range(3, max(leak) + 1):
        entered.process["cwd"] = f"/proc/self/fd/{number}"
        line = program.refused("run", "--bundle", entered.write(), program.id(), pass_fds=leak)
        assert "working directory: " in line
    entered.process["cwd"] = "/"
    name = program.running(entered)
    for number in range(3, max(leak) + 1):
        cwd = f"/proc/self/fd/{number}"
        assert "enter working directory" in program.refused(
            "exec", "--cwd", cwd, name, "pwd", pass_fds=leak
        )


def test_a_folder_that_is_passed_on_by_wish_is_no_working_directory_either(
    program: Program, bundle: OCIBundle
) -> None:
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    bundle.process["cwd"] = "/proc/self/fd/3"
    move = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"
    program.prefix = (sys.executable, "-c", move, str(fd))
    try:
        line = program.refused(
            "run", "--preserve-fds", "1", "--bundle", bundle.write(), program.id(), pass_fds=(fd,)
        )
    finally:
        os.close(fd)
        program.prefix = ()
    assert "enter working directory" in line


def test_nothing_of_the_callers_is_open_inside(
    program: Program, bundle: OCIBundle, leak: list[int]
) -> None:
    bundle.process["args"] = ["ls", "/proc/self/fd"]
    done = program.call("run", "--bundle", bundle.write(), program.id(), pass_fds=leak)
    assert done.stdout.split() == ["0", "1", "2", "3"]  # 3 is ls's own
    name = program.id()
    bundle.process["args"] = ["sleep", "600"]
    program.ok("create", "--bundle", bundle.write(), name, pass_fds=leak, stdout=NULL, stderr=NULL)
    program.ok("start", name)
    pid = program.pid(name)
    assert sorted(os.listdir(f"/proc/{pid}/fd"), key=int) == ["0", "1", "2"]
    listed = program.ok("exec", name, "ls", "/proc/self/fd", pass_fds=leak)
    assert listed.split() == ["0", "1", "2", "3"]


def test_a_process_that_waits_for_its_start_holds_no_folder_of_the_hosts(
    program: Program, bundle: OCIBundle, leak: list[int]
) -> None:
    """A debugger in the same pid namespace could take it."""
    name = program.id()
    program.ok("create", "--bundle", bundle.write(), name, pass_fds=leak, stdout=NULL, stderr=NULL)
    pid = program.pid(name)
    folders = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        status = Path(f"/proc/{pid}/fd/{fd}").stat()
        if stat.S_ISDIR(status.st_mode):
            folders.append((status.st_dev, status.st_ino))
    inside = {Path(f"/proc/{pid}/root").stat(), Path(f"/proc/{pid}/root/proc").stat()}
    assert set(folders) <= {(s.st_dev, s.st_ino) for s in inside}


@pytest.mark.parametrize("kind", ["pipe", "zero", "terminal"])
def test_a_configuration_that_is_no_file_is_refused_at_once(
    program: Program, bundle: OCIBundle, kind: str
) -> None:
    path = bundle.write() / "config.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"zero": "/dev/zero", "terminal": "/dev/ptmx"}[kind])
    line = program.refused("run", "--bundle", path.parent, program.id())
    assert f"{path} is no regular file" in line


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../x", "a/b", "/etc", "a\0b"[:1] + "\n", "é", "a" * 1025]
)
def test_an_id_that_is_a_path_is_none(program: Program, bundle: OCIBundle, name: str) -> None:
    before = sorted(program.folder.iterdir())
    bundle.write()
    for words in (("run", "--bundle", bundle.folder), ("state",), ("delete", "--force"), ("kill",)):
        assert "invalid container ID" in program.refused(*words, "--", name)
    assert set(program.folder.iterdir()) <= {*before, program.root}


def test_a_state_folder_that_is_a_link_of_somebody_elses_is_not_followed(
    program: Program, bundle: OCIBundle, outside: Path
) -> None:
    program.root.mkdir()
    (program.root / "linked").symlink_to(outside)
    bundle.process["args"] = ["true"]
    assert "already exists" in program.refused("run", "--bundle", bundle.write(), "linked")
    (program.root / "linked").unlink()


def test_two_containers_that_share_a_volume_mount_nothing_outside(
    program: Program, entered: OCIBundle, tmp_path: Path, outside: Path
) -> None:
    """CVE-2021-30465: one swaps a folder for a link while the other's mounts are made."""
    volume = tmp_path / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to(f"../../../../../../../..{outside}")
    entered.mount("/volume", volume)
    for kind, path in (("tmpfs", "/volume/a/inner"), ("tmpfs", "/volume/a")):
        entered.config["mounts"].append(
            {"destination": path, "type": kind, "source": kind, "options": []}
        )
    file = entered.folder / "file"
    file.touch()
    entered.mount("/volume/a/x/y/file", file)  # made there, with its folders: CVE-2024-45310
    codes = []
    with swapped(volume / "a", volume / "b"):
        end = time.monotonic() + RACE_S
        while time.monotonic() < end:
            codes.append(program.run(entered, "true").returncode)
            assert list(outside.iterdir()) == []
    assert codes.count(0) > 0
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_a_masked_path_is_not_covered_by_what_the_image_calls_null(
    program: Program, entered: OCIBundle, tmp_path: Path
) -> None:
    """CVE-2025-31133: /dev is a volume in which null is a link to what is to be written."""
    dev = tmp_path / "dev"
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir(parents=True)
    (dev / "null").symlink_to("/proc/sys/kernel/core_pattern")
    entered.config["mounts"] = [
        {"destination": "/dev", "type": "bind", "source": str(dev), "options": ["rbind"]}
        if mount["destination"] == "/dev"
        else mount
        for mount in entered.config["mounts"]
    ]
    entered.process["args"] = ["sh", "-c", "cat /proc/timer_list"]
    line = program.refused("run", "--bundle", entered.write(), program.id())
    assert "null device" in line


@pytest.fixture
def console_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "console"))
        listening.listen()
        listening.settimeout(10)
        yield listening


def test_a_terminal_is_made_by_descriptor_while_dev_is_swapped(
    program: Program, bundle: OCIBundle, tmp_path: Path, console_socket: socket.socket
) -> None:
    """CVE-2025-52565: /dev/console became whatever /dev/pts/0 led to, before it was protected."""
    dev = tmp_path / "dev"
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir(parents=True)
    os.mknod(dev / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (bundle.root / "fake").mkdir()
    (bundle.root / "fake/0").symlink_to("/proc/sys/kernel/shmmni")
    (dev / "link").symlink_to("/fake")
    bundle.config["mounts"] = [
        {"destination": "/dev", "type": "bind", "source": str(dev), "options": ["rbind"]}
        if mount["destination"] == "/dev"
        else mount
        for mount in bundle.config["mounts"]
    ]
    look = "[ $(cat /proc/sys/kernel/shmmni) != 77 ] && echo guarded || echo reached"
    script = f"echo 77 > /dev/console; {look}"
    bundle.process.update(terminal=True, args=["sh", "-c", script])
    created: list[str | Path] = ["create", "--bundle", bundle.write(), "--console-socket"]
    good = 0
    with swapped(dev / "pts", dev / "link"):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            name = program.id()
            done = program.call(*created, tmp_path / "console", name, stdout=NULL, stderr=NULL)
            if done.returncode:
                continue
            connection, _ = console_socket.accept()
            _, fds, _, _ = socket.recv_fds(connection, 64, 4)
            connection.close()
            program.ok("start", name)
            program.ended(name)
            with open(fds[0], "rb", buffering=0) as terminal:
                assert b"guarded" in terminal.read(4096)
            program.ok("delete", name)
            good += 1
    assert good > 0


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_proc_that_is_a_link_is_refused(program: Program, entered: OCIBundle, name: str) -> None:
    """CVE-2019-19921, CVE-2023-27561."""
    (entered.root / "fake").mkdir()
    (entered.root / name).symlink_to("fake")
    assert "symbolic link" in program.refused("run", "--bundle", entered.write(), program.id())


def test_a_proc_swapped_for_a_link_all_the_time_is_never_a_fake(
    program: Program, bundle: OCIBundle
) -> None:
    (bundle.root / "proc").mkdir()
    (bundle.root / "fake").symlink_to("/tmp")
    bundle.linux["sysctl"] = {"net.ipv4.ping_group_range": "7 8"}
    codes = []
    with swapped(bundle.root / "proc", bundle.root / "fake"):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            codes.append(program.run(bundle, "true").returncode)
    assert codes.count(0) > 0
    assert [path.name for path in (bundle.root / "tmp").iterdir()] == []


def test_a_label_is_written_to_no_fake_proc(program: Program, entered: OCIBundle) -> None:
    """CVE-2019-16884: a volume over /proc takes the label, and nobody is confined."""
    fake = entered.folder / "fake"
    for number in ("self", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "thread-self"):
        (fake / number / "attr/apparmor").mkdir(parents=True)
        for attribute in ("attr/exec", "attr/apparmor/exec"):
            (fake / number / attribute).touch()
    entered.capable("CAP_SYS_ADMIN")
    entered.mount("/fake", fake)
    name = program.running(entered)
    program.ok("exec", name, "mount", "-o", "bind", "/fake", "/proc")
    program.refused("exec", "--apparmor", "strict", name, "true")
    entered.mount("/data", fake / "self/attr")
    entered.process["args"] = ["true"]
    for target in ("/proc", "/proc/self/attr", "/proc/1/attr"):
        (entered.root / "data").unlink(missing_ok=True)
        (entered.root / "data").symlink_to(target)
        line = program.refused("run", "--bundle", entered.write(), program.id())
        assert "inside /proc" in line
    assert [p for p in fake.glob("*/attr/**/exec") if p.read_text()] == []


@pytest.mark.parametrize(
    "key",
    [
        "kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel/core_pattern",
        "kernel.hostname",
        "vm.overcommit_memory",
        "net.ipv4.conf.../x",
        "net",
        "net..ipv4",
        "net.ipv4.ip_forward\n",
        "/net/ipv4/ip_forward",
    ],
)
def test_a_parameter_of_the_hosts_is_refused_by_name(
    program: Program, bundle: OCIBundle, key: str
) -> None:
    bundle.linux["sysctl"] = {key: "|/evil"}
    assert "sysctl" in program.refused("run", "--bundle", bundle.write(), program.id())


def test_what_is_mounted_inside_proc_is_not_taken_for_it() -> None:
    """As labels and parameters are written, on whatever host."""
    script = """
import os
from orlop.kernel.mount import mount, MountFlag
from orlop.kernel.namespaces import Namespace, unshare
from orlop.kernel.paths import open_on_mount
proc = os.open("/proc", os.O_PATH)
own = f"{os.getpid()}/attr/exec"
os.close(open_on_mount(proc, own))
unshare(Namespace.MOUNT)
mount("", "/", flags=int(MountFlag.REC | MountFlag.PRIVATE))
mount("t", f"/proc/{os.getpid()}/attr", fstype="tmpfs")
open(f"/proc/{own}", "w").close()
open_on_mount(os.open("/proc", os.O_PATH), own)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr.splitlines()[-1].startswith("OSError: [Errno 18] openat2"), done


def test_a_parameter_is_written_to_no_fake_proc(program: Program, bundle: OCIBundle) -> None:
    fake = bundle.folder / "fake"
    (fake / "ipv4").mkdir(parents=True)
    (fake / "ipv4/ip_forward").write_text("fake")
    (bundle.root / "data").symlink_to("/proc/sys/net")
    bundle.mount("/data", fake)
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    assert "inside /proc" in program.refused("run", "--bundle", bundle.write(), program.id())
    assert (fake / "ipv4/ip_forward").read_text() == "fake"


@pytest.mark.parametrize("separator", ["+", "\n", "\0", "&", ","])
def test_a_value_of_a_parameter_sets_no_other(
    program: Program, bundle: OCIBundle, separator: str
) -> None:
    """CVE-2022-0811: "a+kernel.core_pattern=|/evil" was two of them."""
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    value = f"1{separator}kernel.core_pattern=|/evil"
    bundle.linux["sysctl"] = {"kernel.shm_rmid_forced": value}
    assert "shm_rmid_forced" in program.refused("run", "--bundle", bundle.write(), program.id())
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_devices_stay_inside_whatever_dev_is(
    program: Program, entered: OCIBundle, outside: Path
) -> None:
    """CVE-2026-47766, and devices whose own path leads out."""
    (entered.root / "dev").symlink_to(f"../../../../../..{outside}")
    (entered.root / "link").symlink_to(f"../../../../../..{outside}")
    entered.config["mounts"] = [
        m for m in entered.config["mounts"] if not m["destination"].startswith("/dev")
    ]
    entered.linux["maskedPaths"] = []
    entered.linux["devices"] = [
        {"path": path, "type": "c", "major": 1, "minor": 5}
        for path in ("/dev/extra", "/link/extra", "/dev/../../../../link/two")
    ]
    program.run(entered, "true")


def test_a_program_of_a_hook_gets_nothing_of_the_containers(
    program: Program, bundle: OCIBundle
) -> None:
    """CVE-2025-23266: the host's hook loaded the image's LD_PRELOAD, in the image's root."""
    bundle.process["env"].append("LD_PRELOAD=/evil.so")
    bundle.process["cwd"] = "/tmp"
    out = bundle.folder / "hooks"
    script = f"pwd >> {out}; env >> {out}; ls -l /proc/self/fd >> {out}; cat > /dev/null"
    stages = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    bundle.config["hooks"] = {
        stage: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["STAGE=" + stage]}]
        for stage in stages
    }
    assert program.run(bundle, "true").returncode == 0
    said = out.read_text()
    assert "LD_PRELOAD" not in said
    assert [line for line in said.splitlines() if line.startswith("/")] == [
        str(bundle.folder)
    ] * len(stages)
    assert said.count("STAGE=") == len(stages)
    assert "/rootfs" not in said


def test_a_message_made_of_a_hostile_name_is_one_line_of_the_log(
    program: Program, bundle: OCIBundle
) -> None:
    name = 'x"\n{"level":"info","msg":"all is well"}\ntime="0" level=info msg=fine\x1b[2J'
    bundle.process["args"] = [name]
    for kind in ("json", "text"):
        log = bundle.folder / kind
        done = program.call(
            "--log", log, "--log-format", kind, "run", "--bundle", bundle.write(), program.id()
        )
        assert done.returncode != 0
        lines = log.read_text().splitlines()
        assert len(lines) == 1
        assert "\x1b" not in lines[0]
        if kind == "json":
            assert json.loads(lines[0])["level"] == "error"


def test_a_pid_file_replaces_what_has_its_name(program: Program, bundle: OCIBundle) -> None:
    """Somebody who may write to the folder has put a link there."""
    victim = bundle.folder / "victim"
    victim.write_text("precious")
    for link in ("pid", ".pid"):
        (bundle.folder / link).symlink_to(victim)
    name = program.create(bundle, "--pid-file", bundle.folder / "pid")
    assert victim.read_text() == "precious"
    assert (bundle.folder / "pid").read_text() == str(program.pid(name))


def test_what_a_container_was_made_of_is_read_once(program: Program, bundle: OCIBundle) -> None:
    """A bundle that changes after create changes nothing."""
    name = program.running(bundle)
    bundle.linux["namespaces"] = []
    bundle.process["user"] = {"uid": 0, "gid": 0}
    bundle.process["capabilities"]["bounding"] = ["CAP_SYS_ADMIN"]
    bundle.write()
    assert program.ok("exec", name, "readlink", "/proc/self/ns/mnt") == program.ok(
        "exec", name, "readlink", "/proc/1/ns/mnt"
    )
    state = program.root / name
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE(program.root.stat().st_mode) == 0o700


def test_names_that_change_places_are_really_swapped(tmp_path: Path) -> None:
    """The races above prove nothing if this does not work."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").touch()
    assert RENAME_EXCHANGE == 2
    with swapped(tmp_path / "a", tmp_path / "b"):
        wait_for((tmp_path / "a").is_file)
        wait_for((tmp_path / "a").is_dir)
    assert ctypes.CDLL(None) is not None


@pytest.mark.parametrize(
    ("kind", "file", "key"),
    [("network", "net", "net.ipv4.ip_forward"), ("ipc", "ipc", "kernel.shm_rmid_forced")],
)
def test_a_parameter_of_a_namespace_that_is_the_hosts_is_refused(
    program: Program, bundle: OCIBundle, kind: str, file: str, key: str
) -> None:
    """To join it by its path makes it no container's."""
    bundle.linux["sysctl"] = {key: "1"}
    for path in (f"/proc/1/ns/{file}", f"/proc/self/ns/{file}"):
        bundle.namespace(kind, path)
        assert key in program.refused("run", "--bundle", bundle.write(), program.id())
