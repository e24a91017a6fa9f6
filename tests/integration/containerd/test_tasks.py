"""`ctr run`, `ctr containers` and `ctr tasks`."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from orlop.api.containerd import v1
from tests.integration.containerd.conftest import Ctr, FailedError
from tests.integration.engines import EngineProcess

NAME = "docker.io/library/busybox:test"


@pytest.fixture(scope="module", autouse=True)
def image(ctr: Ctr, busybox_archive: Path) -> str:
    ctr("images", "import", str(busybox_archive))
    return NAME


@pytest.fixture
def task(ctr: Ctr) -> Iterator[str]:
    """A task that runs until it is killed."""
    ctr("run", "-d", NAME, "slow", "sleep", "100")
    yield "slow"
    with contextlib.suppress(FailedError):
        ctr("tasks", "kill", "-s", "SIGKILL", "slow")
    eventually(lambda: state(ctr) in ("STOPPED", ""))
    with contextlib.suppress(FailedError):
        ctr("tasks", "rm", "slow")
    ctr("containers", "rm", "slow")


def state(ctr: Ctr) -> str:
    """Return the state of the one task there is; "" if there is none."""
    rows = ctr("tasks", "ls").splitlines()[1:]
    return rows[0].split()[-1] if rows else ""


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_run_shows_output_and_leaves_nothing(engine: EngineProcess, ctr: Ctr) -> None:
    assert ctr("run", "--rm", NAME, "one", "echo", "hello") == "hello\n"
    assert ctr("containers", "ls", "-q") == ctr("tasks", "ls", "-q") == ""
    assert len(ctr("snapshots", "ls").splitlines()) == 2
    assert engine.out("ps", "-aq") == ""


def test_run_has_the_status_of_its_program(engine: EngineProcess) -> None:
    address = str(engine.run / "containerd.sock")
    done = subprocess.run(
        ["ctr", "-a", address, "run", "--rm", NAME, "one", "sh", "-c", "echo no >&2; exit 7"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"no\n")


def test_input_is_copied_to_its_end(ctr: Ctr) -> None:
    text = "line\n" * 50_000
    assert ctr("run", "--rm", NAME, "one", "cat", given=text.encode()) == text


def test_a_program_that_is_missing_is_named(ctr: Ctr) -> None:
    with pytest.raises(FailedError, match='"nosuch": executable file not found'):
        ctr("run", "--rm", NAME, "one", "nosuch")
    assert ctr("containers", "ls", "-q") == ctr("tasks", "ls", "-q") == ""


def test_a_runtime_that_we_are_not_is_refused(ctr: Ctr) -> None:
    with pytest.raises(FailedError, match="there is no runtime"):
        ctr("run", "--rm", "--runtime", "io.containerd.kata.v2", NAME, "one", "true")
    assert ctr("containers", "ls", "-q") == ""


def test_options_of_run_are_in_force(ctr: Ctr, tmp_path: Path) -> None:
    tmp_path.joinpath("file").write_text("from outside")
    tmp_path.chmod(0o755)
    mount = f"type=bind,src={tmp_path},dst=/mnt,options=rbind:ro"
    script = "echo $A; pwd; id -u; cat /mnt/file; touch /x; touch /mnt/x; ls /sys/class/net"
    told = ctr(
        *("run", "--rm", "--env", "A=b", "--cwd", "/tmp", "--user", "1000:1000", "--read-only"),
        *("--mount", mount, "--memory-limit", "50000000", "--cpus", "0.5", "--seccomp"),
        *(NAME, "one", "sh", "-c", f"({script}) 2>&1"),
    )
    assert told.splitlines()[:3] == ["b", "/tmp", "1000"]
    assert "from outside" in told
    assert told.count("Read-only file system") == 2
    assert told.splitlines()[-1] == "lo"


def test_the_network_of_the_host_can_be_used(ctr: Ctr) -> None:
    here = os.readlink("/proc/self/ns/net")
    assert ctr("run", "--rm", "--net-host", NAME, "one", "readlink", "/proc/self/ns/net") == (
        f"{here}\n"
    )


def test_a_folder_can_be_the_root(ctr: Ctr, tmp_path: Path) -> None:
    for name in ("bin", "proc", "sys", "dev", "run"):
        tmp_path.joinpath(name).mkdir()
    tmp_path.joinpath("bin/sh").write_bytes(Path("/bin/busybox").read_bytes())
    tmp_path.joinpath("bin/sh").chmod(0o755)
    script = "echo written > /file; echo rooted"
    words = ("run", "--rm", "--rootfs", str(tmp_path), "one", "/bin/sh", "-c", script)
    assert ctr(*words) == "rooted\n"
    assert tmp_path.joinpath("file").read_text() == "written\n"


def test_a_terminal_is_one(engine: EngineProcess) -> None:
    address = str(engine.run / "containerd.sock")
    command = f"ctr -a {address} run -t --rm {NAME} one sh -c 'tty; exit 3'"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert b"/dev/pts/0" in done.stdout
    assert done.returncode == 3


def test_a_task_is_listed_with_its_processes(engine: EngineProcess, ctr: Ctr, task: str) -> None:
    (row,) = ctr("tasks", "ls").splitlines()[1:]
    name, pid, status = row.split()
    assert (name, status) == (task, "RUNNING")
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00100\x00"
    assert ctr("tasks", "ps", task).split()[2] == pid
    assert engine.out("ps", "--format", "{{.Image}} {{.Names}}") == "busybox:test default--slow"
    assert ctr("tasks", "ls", "-q", namespace="other") == ""


def test_further_processes_run_in_a_task(ctr: Ctr, task: str) -> None:
    words = ("tasks", "exec", "--exec-id")
    assert ctr(*words, "a", task, "cat", given=b"text") == "text"
    assert ctr(*words, "a", "--cwd", "/bin", task, "pwd") == "/bin\n"
    with pytest.raises(FailedError, match='"nosuch": executable file not found'):
        ctr(*words, "a", task, "nosuch")
    with pytest.raises(FailedError):
        ctr(*words, "a", task, "false")


def test_metrics_and_limits_are_those_of_the_cgroup(
    engine: EngineProcess, ctr: Ctr, task: str
) -> None:
    request = v1.UpdateTaskRequest(container_id=task)
    limits = {"memory": {"limit": 64 << 20, "swap": 64 << 20}, "pids": {"limit": 77}}
    request.resources.value = json.dumps(limits).encode()
    with grpc.insecure_channel(f"unix:{engine.run / 'containerd.sock'}") as channel:
        update = channel.unary_unary(
            "/containerd.services.tasks.v1.Tasks/Update",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=bytes,
        )
        update(request, metadata=(("containerd-namespace", "default"),), timeout=20)
    rows = dict(line.split()[:2] for line in ctr("tasks", "metrics", task).splitlines() if line)
    assert rows["pids.current"] == "1"
    assert rows["pids.limit"] == "77"
    limit = rows.get("memory.limit_in_bytes") or rows.get("memory.usage_limit")
    assert limit == str(64 << 20)


def test_a_task_is_paused_and_resumed(ctr: Ctr, task: str) -> None:
    ctr("tasks", "pause", task)
    assert state(ctr) == "PAUSED"
    with pytest.raises(FailedError, match="is paused"):
        ctr("tasks", "exec", "--exec-id", "a", task, "true")
    ctr("tasks", "resume", task)
    assert state(ctr) == "RUNNING"


def test_a_task_that_runs_is_neither_removed_nor_its_container(ctr: Ctr, task: str) -> None:
    for words, why in (
        (("tasks", "rm", task), "must be stopped"),
        (("containers", "rm", task), "cannot delete a non stopped container"),
        (("run", "-d", NAME, task, "true"), "already exists"),
    ):
        with pytest.raises(FailedError, match=why):
            ctr(*words)
    assert state(ctr) == "RUNNING"


def test_a_task_survives_the_engine(engine: EngineProcess, ctr: Ctr, task: str) -> None:
    before = ctr("tasks", "ls")
    engine.stop(signal.SIGKILL)
    engine.start()
    assert ctr("tasks", "ls") == before
    assert ctr("tasks", "exec", "--exec-id", "a", task, "echo", "still here") == "still here\n"


def test_somebody_can_attach_to_a_task(engine: EngineProcess, ctr: Ctr) -> None:
    """A client that has gone leaves its named pipes, which the next one opens."""
    ctr("run", "-d", NAME, "slow", "sh", "-c", "read line; echo got $line")
    address = str(engine.run / "containerd.sock")
    done = subprocess.run(
        ["ctr", "-a", address, "tasks", "attach", "slow"],
        input=b"a line\n",
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == b"got a line\n"
    eventually(lambda: state(ctr) in ("STOPPED", ""))
    with contextlib.suppress(FailedError):
        ctr("tasks", "rm", "slow")
    ctr("containers", "rm", "slow")


def test_containers_are_kept_without_a_task(ctr: Ctr) -> None:
    ctr("containers", "create", NAME, "kept", "echo", "started")
    ctr("containers", "label", "kept", "colour=navy")
    assert ctr("containers", "ls", "-q", "labels.colour==navy") == "kept\n"
    told = json.loads(ctr("containers", "info", "kept"))
    assert told["Image"] == NAME
    assert told["Spec"]["process"]["args"] == ["echo", "started"]
    assert ctr("tasks", "start", "kept") == "started\n"
    with contextlib.suppress(FailedError):
        ctr("tasks", "rm", "kept")
    ctr("containers", "rm", "kept")
    assert ctr("containers", "ls", "-q") == ""


def test_a_namespace_that_is_used_is_not_removed(ctr: Ctr) -> None:
    ctr("containers", "create", "--snapshotter", "overlayfs", NAME, "kept", "true")
    with pytest.raises(FailedError, match="the namespace default has"):
        ctr("namespaces", "rm", "default")
    ctr("containers", "rm", "kept")


def test_streams_go_to_named_pipes_only(engine: EngineProcess, ctr: Ctr, tmp_path: Path) -> None:
    ctr("containers", "create", "--snapshotter", "overlayfs", NAME, "kept", "echo", "text")
    plain, link, pipe = (tmp_path / name for name in ("plain", "link", "pipe"))
    plain.write_text("before")
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with grpc.insecure_channel(f"unix:{engine.run / 'containerd.sock'}") as channel:
        create = channel.unary_unary(
            "/containerd.services.tasks.v1.Tasks/Create",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=bytes,
        )
        for path in (plain, link, "pipe", "/dev/null", tmp_path / "none", "file:///tmp/x"):
            request = v1.CreateTaskRequest(container_id="kept", stdout=str(path))
            with pytest.raises(grpc.RpcError, match=r"INVALID_ARGUMENT|UNIMPLEMENTED"):
                create(request, metadata=(("containerd-namespace", "default"),), timeout=20)
    assert plain.read_text() == "before"
    assert ctr("tasks", "ls", "-q") == engine.out("ps", "-aq") == ""
    ctr("containers", "rm", "kept")


@pytest.mark.parametrize("delay_s", [0.05, 0.09, 0.13])
def test_a_run_that_the_engines_death_cuts_short_can_be_cleared_up(
    engine: EngineProcess, ctr: Ctr, delay_s: float
) -> None:
    address = str(engine.run / "containerd.sock")
    words = ["ctr", "-a", address, "run", "--rm", NAME, "cut", "sleep", "100"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        time.sleep(delay_s)
        engine.stop(signal.SIGKILL)
        client.kill()
    engine.start()
    if "cut" in ctr("tasks", "ls", "-q"):
        with contextlib.suppress(FailedError):  # it was never started
            ctr("tasks", "kill", "-s", "SIGKILL", "cut")
        eventually(lambda: state(ctr) != "RUNNING")
        with contextlib.suppress(FailedError):
            ctr("tasks", "rm", "--force", "cut")
    if "cut" in ctr("containers", "ls", "-q"):
        ctr("containers", "rm", "cut")
    with contextlib.suppress(FailedError):
        ctr("snapshots", "rm", "cut")
    assert ctr("run", "--rm", NAME, "cut", "echo", "again") == "again\n"
    assert engine.out("ps", "-aq") == ""
    engine.stop()
    engine.start()  # which removes what nobody knows of
    assert [*(engine.root / "snapshots" / "overlay" / "snapshots").iterdir()] == []
