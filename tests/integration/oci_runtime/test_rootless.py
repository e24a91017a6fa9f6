"""`orlop-runtime` as an ordinary user calls it, who is root in his containers alone."""

import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orlop
from tests.integration.oci_runtime.program import SCRIPT, OCIBundle, Program
from tests.integration.seccomp.agent import agent

USER = 65534  # nobody, who has a name, as newuidmap wants
RANGE = (760_000, 65_536)


class Ordinary(Program):
    """The program as USER calls it, with nothing of root's in its environment."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.environment = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run")}

    def call(self, *words: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
        return super().call(*words, user=USER, group=USER, extra_groups=[], cwd=self.folder, **how)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of USER's, on a way that he can go."""
    folder = Path(tempfile.mkdtemp(prefix="orlop-test-rootless-", dir="/tmp"))
    (folder / "run").mkdir()
    give(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def ordinary(home: Path) -> Iterator[Ordinary]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    made = Ordinary(home)
    yield made
    made.close()


@pytest.fixture
def bundle(home: Path, ordinary: Ordinary) -> OCIBundle:
    """What `spec --rootless` makes, with a root of busybox's."""
    made = OCIBundle(home / "bundle")
    give(made.folder)
    ordinary.ok("spec", "--rootless", "--bundle", made.folder)
    made.config = json.loads((made.folder / "config.json").read_text())
    made.process["terminal"] = False
    made.process["env"] = ["PATH=/bin"]
    made.config["root"]["readonly"] = False
    return made


@pytest.fixture
def ranges() -> Iterator[None]:
    """USER has a range of ids beside his own, as adduser gives it."""
    with contextlib.ExitStack() as undo:
        for name in ("subuid", "subgid"):
            file = Path("/etc", name)
            before = file.read_text() if file.exists() else ""
            undo.callback(file.write_text, before) if file.exists() else undo.callback(file.unlink)
            file.write_text(before + f"nobody:{RANGE[0]}:{RANGE[1]}\n")
        yield


def give(folder: Path) -> None:
    """Make everything below *folder* USER's."""
    subprocess.run(["chown", "-hR", f"{USER}:{USER}", folder], check=True)


def with_a_range(bundle: OCIBundle) -> OCIBundle:
    for key in ("uidMappings", "gidMappings"):
        bundle.linux[key] = [
            {"containerID": 0, "hostID": USER, "size": 1},
            {"containerID": 1, "hostID": RANGE[0], "size": RANGE[1]},
        ]
    return bundle


def test_root_inside_is_the_user_outside(ordinary: Ordinary, bundle: OCIBundle) -> None:
    said = ordinary.sh(bundle, "id -u; cat /proc/self/uid_map; hostname; touch /tmp/made; exit 0")
    assert said.split() == ["0", "0", str(USER), "1", "orlop"]
    assert (bundle.root / "tmp/made").stat().st_uid == USER
    assert ordinary.run(bundle, "sh", "-c", "exit 7").returncode == 7


def test_what_spec_writes_is_run_as_it_is(ordinary: Ordinary, bundle: OCIBundle) -> None:
    bundle.config["root"]["readonly"] = True
    assert "Read-only" in ordinary.run(bundle, "touch", "/tmp/x").stderr


def test_a_life_from_create_to_delete(ordinary: Ordinary, bundle: OCIBundle) -> None:
    bundle.process["args"] = ["sleep", "600"]
    name = ordinary.create(bundle)
    assert ordinary.state(name)["status"] == "created"
    ordinary.ok("start", name)
    state = ordinary.state(name)
    assert state["status"] == "running"
    assert os.stat(f"/proc/{state['pid']}").st_uid == USER
    assert name in ordinary.ok("list")
    assert ordinary.ok("exec", name, "sh", "-c", "id -u; hostname").split() == ["0", "orlop"]
    assert ordinary.ok("exec", name, "readlink", "/proc/self/ns/user") == ordinary.ok(
        "exec", name, "readlink", "/proc/1/ns/user"
    )
    ordinary.ok("kill", name, "KILL")
    ordinary.ended(name)
    ordinary.ok("delete", name)
    assert "does not exist" in ordinary.refused("state", name)


def test_a_range_of_ids_is_mapped_by_the_helpers(
    ordinary: Ordinary, bundle: OCIBundle, ranges: None
) -> None:
    with_a_range(bundle)
    (bundle.root / "tmp").chmod(0o777)
    bundle.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [7]}
    said = ordinary.sh(bundle, "id -u; id -g; id -G; touch /tmp/made; cat /proc/self/gid_map")
    numbers = [int(word) for word in said.split()]
    assert numbers == [1000, 1001, 1001, 7, 0, USER, 1, 1, *RANGE]
    made = (bundle.root / "tmp/made").stat()
    assert (made.st_uid, made.st_gid) == (RANGE[0] + 999, RANGE[0] + 1000)


def test_a_later_process_may_be_any_user_of_the_range(
    ordinary: Ordinary, bundle: OCIBundle, ranges: None
) -> None:
    name = ordinary.running(with_a_range(bundle))
    assert ordinary.ok("exec", "--user", "5:6", name, "id", "-u").split() == ["5"]
    assert ordinary.ok("exec", name, "id", "-u").split() == ["0"]


def test_ids_that_are_not_the_users_are_refused(ordinary: Ordinary, bundle: OCIBundle) -> None:
    for mapping in ([(0, 0, 1)], [(0, USER, 2)], [(0, USER, 1), (1, 1, 1)]):
        for key in ("uidMappings", "gidMappings"):
            bundle.linux[key] = [
                {"containerID": inside, "hostID": outside, "size": size}
                for inside, outside, size in mapping
            ]
        line = ordinary.refused("run", "--bundle", bundle.write(), ordinary.id())
        assert "newuidmap" in line


def test_the_helpers_are_named_where_they_are_missing(
    ordinary: Ordinary, bundle: OCIBundle
) -> None:
    ordinary.environment["PATH"] = str(ordinary.folder)
    ordinary.script = Path("/bin/sh")
    words = [str(SCRIPT), "--root", str(ordinary.root), "run", "--bundle"]
    with_a_range(bundle)
    done = subprocess.run(
        [*words, bundle.write(), ordinary.id()],
        env={"PATH": "/nowhere"},
        user=USER,
        group=USER,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    ordinary.script = SCRIPT
    ordinary.environment.pop("PATH")
    assert "need newuidmap" in done.stderr
    assert done.returncode == 1


def test_without_a_user_namespace_it_is_refused(ordinary: Ordinary, bundle: OCIBundle) -> None:
    bundle.linux["namespaces"] = [{"type": "pid"}, {"type": "mount"}]
    line = ordinary.refused("run", "--bundle", bundle.write(), ordinary.id())
    assert "needs a user namespace" in line


@pytest.mark.parametrize("own", [True, False], ids=["own", "shared"])
def test_no_cgroup_can_be_written_to(ordinary: Ordinary, bundle: OCIBundle, own: bool) -> None:
    """CVE-2023-25809: the host's tree was writable, where the user was given a part of it."""
    if not own:
        bundle.linux["namespaces"] = [
            entry for entry in bundle.linux["namespaces"] if entry["type"] != "cgroup"
        ]
    script = 'awk \'$2 ~ "^/sys" && $4 !~ "^ro" {print $2}\' /proc/self/mounts; echo done'
    assert ordinary.sh(bundle, script) == "done\n"


def test_a_mount_of_cgroups_shows_the_users_own(ordinary: Ordinary, bundle: OCIBundle) -> None:
    bundle.config["mounts"].append(
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    )
    script = "find /sys/fs/cgroup -name cgroup.procs | head -n 1; touch /sys/fs/cgroup/x || true"
    done = ordinary.run(bundle, "sh", "-c", script)
    assert done.stdout.startswith("/sys/fs/cgroup/")
    assert "Read-only" in done.stderr


def test_limits_that_need_a_cgroup_are_refused(ordinary: Ordinary, bundle: OCIBundle) -> None:
    bundle.linux["resources"] = {"memory": {"limit": 1 << 26}}
    assert "cgroup" in ordinary.refused("run", "--bundle", bundle.write(), ordinary.id())
    name = ordinary.id()
    bundle.linux["resources"] = {}
    bundle.process["args"] = ["sleep", "600"]
    ordinary.ok("create", "--bundle", bundle.write(), name, **quiet())
    ordinary.refused("pause", name)
    ordinary.refused("update", "--memory", "64M", name)


def test_a_terminal(ordinary: Ordinary, bundle: OCIBundle) -> None:
    bundle.process.update(terminal=True, args=["tty"])
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(ordinary.folder / "console"))
        listening.listen()
        listening.settimeout(10)
        os.chown(ordinary.folder / "console", USER, USER)
        name = ordinary.id()
        words: list[str | Path] = ["create", "--bundle", bundle.write(), "--console-socket"]
        ordinary.ok(*words, ordinary.folder / "console", name, **quiet())
        connection, _ = listening.accept()
        _, fds, _, _ = socket.recv_fds(connection, 64, 4)
        connection.close()
    ordinary.ok("start", name)
    ordinary.ended(name)
    with open(fds[0], "rb", buffering=0) as terminal:
        assert terminal.read(4096) == b"/dev/pts/0\r\n"


def test_containers_are_kept_where_the_user_keeps_what_runs(
    ordinary: Ordinary, bundle: OCIBundle
) -> None:
    bundle.process["args"] = ["true"]
    ordinary.root = ordinary.folder / "run/orlop-runtime"
    name = ordinary.id()
    command: list[str | Path] = [SCRIPT, "create", "--bundle", bundle.write(), name]
    environment = {"XDG_RUNTIME_DIR": str(ordinary.folder / "run"), "PATH": os.environ["PATH"]}
    subprocess.run(
        command, user=USER, group=USER, extra_groups=[], env=environment, check=True, timeout=60
    )
    assert (ordinary.root / name / "state.json").stat().st_uid == USER
    assert ordinary.state(name)["status"] == "created"


def test_a_container_of_roots_is_out_of_reach(
    ordinary: Ordinary, bundle: OCIBundle, tmp_path: Path
) -> None:
    theirs = Program(tmp_path)
    other = OCIBundle(tmp_path / "bundle")
    try:
        name = theirs.running(other)
        ordinary.root = theirs.root
        for words in (("exec", name, "true"), ("kill", name, "KILL"), ("delete", "-f", name)):
            ordinary.refused(*words)
        assert theirs.state(name)["status"] == "running"
    finally:
        ordinary.root = ordinary.folder / "state"
        theirs.close()


def test_an_interpreter_of_the_users_own_runs_from_memory(
    ordinary: Ordinary, bundle: OCIBundle
) -> None:
    """Root inside could write to it, as the user can; root's own he can only read."""
    bundle.process["args"] = ["true"]
    assert not os.readlink(f"/proc/{ordinary.pid(ordinary.create(bundle))}/exe").startswith(
        "/memfd"
    )
    interpreter = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    folder = ordinary.folder / "bin"
    folder.mkdir()
    shutil.copy(interpreter, folder)
    (ordinary.folder / "lib").symlink_to(Path(sys.base_prefix, "lib"))
    (folder / "orlop-main").write_text(f"#!{folder / interpreter.name}\n")
    ordinary.script = Path(shutil.copy(SCRIPT, folder))
    ordinary.environment["PYTHONPATH"] = str(Path(orlop.__file__).parents[1])
    give(folder)
    assert os.readlink(f"/proc/{ordinary.pid(ordinary.create(bundle))}/exe").startswith("/memfd:")


def quiet() -> dict[str, Any]:
    return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
def test_calls_can_be_notified_without_root(ordinary: Ordinary, bundle: OCIBundle) -> None:
    mkdir = 83
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [rule],
        "listenerPath": str(ordinary.folder / "agent"),
    }
    with agent(ordinary.folder / "agent", {mkdir: errno.ENOMEDIUM}) as answering:
        answering.path.chmod(0o777)
        done = ordinary.run(bundle, "mkdir", "/tmp/x")
        assert answering.state()["state"]["status"] == "creating"
    assert (done.returncode, "No medium found" in done.stderr) == (1, True)
