"""Checkpoint and restore by CRIU: what goes on, and what is left."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.oci_runtime.images import COUNTER, Images, ended, mounts_of, status_of
from tests.integration.oci_runtime.program import OCIBundle, Program, wait_for


@pytest.fixture
def images(program: Program, bundle: OCIBundle) -> Images:
    return Images(program, bundle)


def test_a_restored_process_goes_on_where_it_was(program: Program, images: Images) -> None:
    name = images.counting()
    images.checkpoint(name)
    images.stands_still()
    pid_file = program.folder / "pid"
    images.restore(name, "--pid-file", pid_file)
    images.go_on()
    state = program.state(name)
    assert state["status"] == "running"
    assert int(pid_file.read_text()) == state["pid"]
    record = json.loads((program.root / name / "state.json").read_text())
    assert record["init_process_pid"] == state["pid"]


def test_a_checkpoint_is_the_end_of_the_container(program: Program, images: Images) -> None:
    name = images.counting()
    images.checkpoint(name)
    assert program.ok("list", "--quiet") == ""
    assert "does not exist" in program.refused("state", name)


def test_a_container_may_be_left_running(program: Program, images: Images) -> None:
    name = images.counting()
    pid = program.pid(name)
    images.checkpoint(name, "--leave-running")
    images.go_on()
    assert program.state(name)["pid"] == pid
    program.ok("delete", "--force", name)
    images.count.write_text("")
    images.restore(name)
    wait_for(lambda: len(images.counted()) > 2)
    assert images.counted()[0] > 2


def test_a_restored_container_is_as_it_was(
    program: Program, images: Images, tmp_path: Path
) -> None:
    bundle = images.bundle
    (tmp_path / "volume").mkdir()
    (tmp_path / "file").write_text("a file\n")
    bundle.mount("/volume", tmp_path / "volume", "ro", "nosuid")
    bundle.mount("/etc/file", tmp_path / "file", "ro")
    bundle.process["noNewPrivileges"] = True
    bundle.process["user"] = {"uid": 0, "gid": 0, "additionalGids": [50]}
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
    }
    bundle.config["root"]["readonly"] = True
    bundle.mount("/tmp", bundle.root / "tmp")
    name = images.counting()
    pid = program.pid(name)
    mounts, status = mounts_of(pid), status_of(pid)
    cgroups = Path(f"/proc/{pid}/cgroup").read_text()
    images.checkpoint(name)
    images.restore(name)
    pid = program.pid(name)
    assert mounts_of(pid) == mounts
    assert status_of(pid) == status
    assert Path(f"/proc/{pid}/cgroup").read_text() == cgroups
    for kind in ("pid", "net", "mnt", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    assert str(tmp_path / "images") not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def shared_mounts(program: Program) -> Iterator[None]:
    """Have the program run where all mounts are shared, as on a host with systemd."""
    command = ("unshare", "--mount", "--propagation", "shared", "cat")
    with ended(subprocess.Popen(command, stdin=subprocess.PIPE)) as host:
        wait_for(lambda: Path(f"/proc/{host.pid}/comm").read_text() == "cat\n")
        program.prefix = ("nsenter", f"--mount=/proc/{host.pid}/ns/mnt")
        yield
        program.prefix = ()


@pytest.mark.usefixtures("shared_mounts")
def test_mounts_that_get_others_from_the_host_are_restored(
    program: Program, images: Images, tmp_path: Path
) -> None:
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        images.bundle.mount(f"/{name}", tmp_path / name, "rslave")
    name = images.counting()
    mounts = mounts_of(program.pid(name))
    images.checkpoint(name)
    images.restore(name)
    images.go_on()
    pid = program.pid(name)
    assert mounts_of(pid) == mounts
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    assert all(" master:" in line for line in lines if line.split()[4] in ("/one", "/another"))


def test_a_restored_container_takes_every_command(program: Program, images: Images) -> None:
    name = images.counting()
    images.checkpoint(name)
    images.restore(name)
    assert program.ok("exec", name, "hostname") == "inside\n"
    assert program.ok("exec", name, "sh", "-c", "ip link show lo | grep -c UP") == "1\n"
    program.ok("pause", name)
    assert program.state(name)["status"] == "paused"
    program.ok("resume", name)
    images.go_on()
    images.checkpoint(name)
    images.restore(name)
    images.go_on()
    program.ok("kill", name, "KILL")
    program.ended(name)
    program.ok("delete", name)


def test_a_paused_container_can_be_checkpointed(program: Program, images: Images) -> None:
    name = images.counting()
    program.ok("pause", name)
    images.checkpoint(name)
    images.restore(name)
    images.go_on()


def test_a_root_without_mount_points_gets_them(
    program: Program, images: Images, tmp_path: Path
) -> None:
    (tmp_path / "volume/inner").mkdir(parents=True)
    (tmp_path / "volume/inner/file").write_text("here\n")
    images.bundle.mount("/new/volume", tmp_path / "volume")
    images.bundle.mount("/new/volume/inner/deep", tmp_path / "volume")
    name = images.counting()
    images.checkpoint(name)
    for path in ("new", "proc", "sys", "dev"):
        os.system(f"rm -rf {images.bundle.root / path}")
    (tmp_path / "volume/inner/deep").rmdir()
    images.restore(name)
    images.go_on()
    assert program.ok("exec", name, "cat", "/new/volume/inner/deep/inner/file") == "here\n"


def test_a_container_that_does_not_run_has_no_checkpoint(
    program: Program, bundle: OCIBundle, images: Images
) -> None:
    bundle.process["args"] = ["true"]
    name = program.create(bundle)
    assert "created state" in program.refused("checkpoint", "--image-path", images.path, name)
    program.ok("start", name)
    program.ended(name)
    assert "stopped state" in program.refused("checkpoint", "--image-path", images.path, name)
    assert not images.path.exists()


def test_options_that_mean_nothing_are_refused(program: Program, images: Images) -> None:
    name = images.counting()

    def refused(*words: str) -> str:
        return program.refused("checkpoint", "--image-path", images.path, *words, name)

    assert "mount" in refused("--empty-ns", "mount")
    assert "hard" in refused("--manage-cgroups-mode", "hard")
    assert "nowhere" in refused("--page-server", "nowhere")
    assert "must be relative" in refused("--parent-path", "/tmp")
    assert "no folder" in refused("--parent-path", "../absent")
    assert "99" in refused("--lazy-pages", "--status-fd", "99")
    images.go_on()


def test_mounts_below_a_bind_are_restored_with_it(
    program: Program, images: Images, tmp_path: Path
) -> None:
    """Also from a shared mount, from which others get what is mounted there."""
    volume = tmp_path / "volume"
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", volume], check=True)
    try:
        subprocess.run(["mount", "--make-shared", volume], check=True)
        (volume / "inner").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", volume / "inner"], check=True)
        (volume / "inner/file").write_text("here\n")
        images.bundle.mount("/link/volume", volume, "rslave")
        (images.bundle.root / "place").mkdir()
        (images.bundle.root / "link").symlink_to("place")
        name = images.counting()
        mounts = mounts_of(program.pid(name))
        images.checkpoint(name)
        images.restore(name)
        images.go_on()
        assert mounts_of(program.pid(name)) == mounts
        assert program.ok("exec", name, "cat", "/place/volume/inner/file") == "here\n"
        program.ok("delete", "--force", name)
    finally:
        subprocess.run(["umount", "--recursive", volume], check=True)


def test_a_container_in_a_user_namespace_is_restored_into_one(
    program: Program, images: Images
) -> None:
    images.bundle.namespace("user")
    mapping = [{"containerID": 0, "hostID": 0, "size": 1 << 16}]
    images.bundle.linux["uidMappings"] = images.bundle.linux["gidMappings"] = mapping
    name = images.counting()
    pid = program.pid(name)
    mounts, status = mounts_of(pid), status_of(pid)
    images.checkpoint(name)
    images.restore(name)
    images.go_on()
    pid = program.pid(name)
    assert (mounts_of(pid), status_of(pid)) == (mounts, status)
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "0", "65536"]


def test_hooks_of_the_runtime_are_run_for_the_restored_container(
    program: Program, images: Images, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >> {witness}; echo >> {witness}"]}
    images.bundle.config["hooks"] = {"prestart": [hook], "createRuntime": [hook]}
    name = images.counting()
    images.checkpoint(name)
    witness.write_text("")
    images.restore(name)
    images.go_on()
    told = [json.loads(line) for line in witness.read_text().splitlines()]
    assert [(one["id"], one["status"]) for one in told] == [(name, "creating")] * 2
    assert {one["pid"] for one in told} == {program.pid(name)}


def test_a_hook_that_fails_ends_the_restore(program: Program, images: Images) -> None:
    name = images.counting()
    images.checkpoint(name)
    images.bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    with open(os.devnull, "w") as null:
        assert "/bin/false" in program.refused(*images.restoring(name), stdout=null)
    assert program.ok("list", "--quiet") == ""
    images.stands_still()


def test_a_restore_needs_an_id_that_is_free(program: Program, images: Images) -> None:
    name = images.counting()
    images.checkpoint(name, "--leave-running")
    with open(os.devnull, "w") as null:
        assert "already exists" in program.refused(*images.restoring(name), stdout=null)
    assert program.state(name)["status"] == "running"


def test_without_criu_there_is_a_sentence(program: Program, images: Images) -> None:
    name = images.counting()
    program.environment["PATH"] = "/nowhere"
    assert "need criu" in program.refused("checkpoint", "--image-path", images.path, name)
    del program.environment["PATH"]
    images.go_on()


def test_later_processes_are_in_all_namespaces_of_a_restored_one(
    program: Program, images: Images
) -> None:
    """The namespace of its clocks too, which it has got by the restore."""
    name = images.counting()
    images.checkpoint(name)
    images.restore(name)
    for kind in ("pid", "net", "mnt", "ipc", "uts", "cgroup", "time"):
        inside = program.ok("exec", name, "readlink", f"/proc/self/ns/{kind}").strip()
        assert inside == os.readlink(f"/proc/{program.pid(name)}/ns/{kind}"), kind


def test_a_restore_that_is_killed_leaves_what_delete_takes_away(
    program: Program, images: Images, tmp_path: Path
) -> None:
    name = images.counting()
    images.checkpoint(name)
    script = f"touch {tmp_path}/reached; exec sleep 600"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
    images.bundle.config["hooks"] = {"createRuntime": [hook]}
    command = [program.script, "--root", program.root, *images.restoring(name)]
    null = subprocess.DEVNULL
    with ended(subprocess.Popen(command, stdin=null, stdout=null, stderr=null)) as restoring:
        wait_for((tmp_path / "reached").exists)
        below = Path(f"/proc/{restoring.pid}/task/{restoring.pid}/children").read_text().split()
        restoring.kill()
        restoring.wait()
    for pid in below:
        if "sleep" in cmdline(pid):
            os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: not any(map(cmdline, below)))
    program.ok("delete", "--force", name)
    images.stands_still()


def cmdline(pid: str) -> str:
    """Return a process's command line; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("mode", ["soft", "full", "ignore"])
def test_cgroups_are_the_bundles_in_every_mode(program: Program, images: Images, mode: str) -> None:
    linux = images.bundle.linux  # with "ignore" CRIU makes no namespace of cgroups
    linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "cgroup"]
    linux["resources"] = {"pids": {"limit": 77}}
    name = images.counting()
    images.checkpoint(name, "--manage-cgroups-mode", mode)
    linux["resources"] = {"pids": {"limit": 66}}
    images.restore(name, "--manage-cgroups-mode", mode)
    images.go_on()
    lines = Path(f"/proc/{program.pid(name)}/cgroup").read_text().splitlines()
    assert {line.split(":", 2)[2] for line in lines} == {f"/orlop/{name}"}
    limit = next(Path("/sys/fs/cgroup").glob(f"*/orlop/{name}/pids.max")).read_text()
    assert int(limit) == 66


def test_locks_and_files_without_a_name_are_restored(program: Program, images: Images) -> None:
    prepare = (
        "import fcntl\nlocked = open('/tmp/lock', 'w')\nfcntl.flock(locked, fcntl.LOCK_EX)\n"
        "open('/tmp/gone', 'w').write('still here')\n"
        "gone = open('/tmp/gone'); os.link('/tmp/gone', '/tmp/other'); os.unlink('/tmp/gone')"
    )
    exchange = "number if not gone.seek(0) and gone.read() == 'still here' else 'broken'"
    name = images.counting_over(prepare, exchange)
    assert "lock" in program.refused("checkpoint", "--image-path", images.path, name)
    images.checkpoint(name, "--file-locks", "--link-remap")
    images.restore(name, "--file-locks")
    images.go_on()
    program.refused("exec", name, "flock", "-n", "/tmp/lock", "true")


def test_images_of_runcs_are_restored(program: Program, images: Images) -> None:
    bundle = images.bundle
    bundle.root.joinpath("dev").mkdir()
    name = program.id()
    bundle.process["args"] = ["sh", "-c", COUNTER]
    runc = ["runc", "--root", str(program.folder / "runc")]
    command = [*runc, "run", "--detach", "--bundle", str(bundle.write()), name]
    null = subprocess.DEVNULL
    subprocess.run(command, check=True, stdin=null, stdout=null, stderr=null)
    try:
        images.go_on()
        where = ("--image-path", str(images.path))
        subprocess.run([*runc, "checkpoint", *where, name], check=True)
    finally:
        subprocess.run([*runc, "delete", "--force", name], check=True)
    images.restore(name)
    images.go_on()
    images.checkpoint(name)
    images.restore(name)
    images.go_on()


def test_an_ordinary_user_is_told_that_it_takes_root(program: Program, images: Images) -> None:
    name = images.counting()
    images.bundle.write()
    program.prefix = ("setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups")
    for words in (["checkpoint", name], images.restoring(name)):
        assert "need root" in program.refused(*words, cwd="/")
    program.prefix = ()
    images.go_on()
