"""Containers, with the docker command of Debian's docker-cli against a real engine."""

import re
import signal
import socket
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.integration.api.terminal import Terminal
from tests.integration.engines import EngineProcess

IMAGE = "busybox:test"
pytestmark = pytest.mark.usefixtures("image")


def test_run_prints_both_streams_and_returns_the_exit_code(engine: EngineProcess) -> None:
    done = engine.docker(
        "run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 42", check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")


def test_run_passes_stdin_and_its_end(engine: EngineProcess) -> None:
    done = engine.docker("run", "--rm", "-i", IMAGE, "cat", input="first\nlast")
    assert done.stdout == "first\nlast"


def test_large_output_arrives_whole(engine: EngineProcess) -> None:
    done = engine.docker("run", "--rm", IMAGE, "seq", "1", "300000")
    assert done.stdout.split()[-1] == "300000"
    assert len(done.stdout.split()) == 300000


def test_run_of_an_unknown_command_is_127_and_not_executable_126(engine: EngineProcess) -> None:
    done = engine.docker("run", "--rm", IMAGE, "no-such-command", check=False)
    assert done.returncode == 127
    assert "no-such-command" in done.stderr
    assert engine.docker("run", "--rm", IMAGE, "/etc/passwd", check=False).returncode == 126
    assert engine.out("ps", "-aq", "--filter", "status=created") == ""


def test_run_of_an_unknown_option_value_is_125(engine: EngineProcess) -> None:
    done = engine.docker("run", "--rm", "--network", "nowhere", IMAGE, "true", check=False)
    assert done.returncode == 125
    assert "Traceback" not in done.stderr


def test_detached_container_runs_until_it_is_stopped(engine: EngineProcess, name: str) -> None:
    container = engine.out("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    assert re.fullmatch("[0-9a-f]{64}", container)
    assert name in engine.out("ps", "--format", "{{.Names}}")
    assert engine.out("ps", "--filter", f"name={name}", "--format", "{{.Status}}").startswith("Up ")
    engine.docker("stop", "-t", "0", name)
    assert name not in engine.out("ps", "--format", "{{.Names}}").split()
    assert (
        engine.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name) == "exited 137"
    )
    engine.docker("stop", name)  # a second time is no error


def test_start_of_a_running_container_is_no_error(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    assert engine.docker("start", name).returncode == 0


def test_start_attached_shows_output_and_exit_code(engine: EngineProcess, name: str) -> None:
    engine.docker("create", "--name", name, IMAGE, "sh", "-c", "echo again; exit 3")
    for _ in range(2):
        done = engine.docker("start", "-a", name, check=False)
        assert (done.returncode, done.stdout) == (3, "again\n")


def test_run_with_a_terminal_is_interactive(engine: EngineProcess) -> None:
    with Terminal(engine, "run", "--rm", "-it", IMAGE, "sh") as terminal:
        terminal.expect("# ")
        terminal.send("tty; echo $((6*7))\n")
        terminal.expect("/dev/(pts/0|console)")
        terminal.expect("42")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5


def test_terminal_can_be_detached_from_and_attached_to(engine: EngineProcess, name: str) -> None:
    with Terminal(engine, "run", "--name", name, "-it", IMAGE, "sh") as terminal:
        terminal.expect("# ")
        terminal.send("\x10\x11")
        assert terminal.wait() == 0
    assert engine.out("inspect", "-f", "{{.State.Running}}", name) == "true"
    with Terminal(engine, "attach", name) as terminal:
        terminal.send("echo back-$((1+1))\n")
        terminal.expect("back-2")
        terminal.send("exit 6\n")
        assert terminal.wait() == 6


def test_signals_are_forwarded_to_an_attached_container(engine: EngineProcess, name: str) -> None:
    script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    with subprocess.Popen(
        ["docker", "run", "--name", name, IMAGE, "sh", "-c", script],
        env=engine.environment(),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "caught\n"
        assert process.wait(20) == 9


def test_rm_option_leaves_nothing(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "--rm", "--name", name, IMAGE, "true")
    deadline = time.monotonic() + 20
    while name in engine.out("ps", "-a", "--format", "{{.Names}}").split():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- a container's life


def test_exec_runs_in_the_container_and_returns_its_exit_code(
    engine: EngineProcess, name: str
) -> None:
    engine.docker("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    assert (
        engine.out("exec", "-e", "A=b", "-w", "/tmp", name, "sh", "-c", "echo $A $PWD") == "b /tmp"
    )
    done = engine.docker("exec", name, "sh", "-c", "echo e >&2; exit 7", check=False)
    assert (done.returncode, done.stderr) == (7, "e\n")
    assert engine.docker("exec", "-i", name, "cat", input="through").stdout == "through"
    assert engine.docker("exec", name, "no-such-command", check=False).returncode == 126
    engine.docker("exec", "-d", name, "touch", "/tmp/made")
    deadline = time.monotonic() + 20
    while engine.docker("exec", name, "test", "-e", "/tmp/made", check=False).returncode:
        assert time.monotonic() < deadline


def test_exec_with_a_terminal_is_interactive(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    with Terminal(engine, "exec", "-it", name, "sh") as terminal:
        terminal.expect("# ")
        terminal.send("echo $((40+2))\n")
        terminal.expect("42")
        terminal.send("exit 4\n")
        assert terminal.wait() == 4


def test_exec_in_a_stopped_container_is_refused(engine: EngineProcess, name: str) -> None:
    engine.docker("create", "--name", name, IMAGE)
    done = engine.docker("exec", name, "true", check=False)
    assert done.returncode == 1
    assert "not running" in done.stderr or "created" in done.stderr


def test_logs_can_be_followed_to_the_end(engine: EngineProcess, name: str) -> None:
    script = "echo one; echo two >&2; sleep 0.5; echo three"
    engine.docker("run", "-d", "--name", name, IMAGE, "sh", "-c", script)
    done = engine.docker("logs", "-f", name)
    assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
    assert engine.docker("logs", "--tail", "1", name).stdout == "three\n"
    stamped = engine.docker("logs", "-t", "--tail", "1", name).stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z three\n", stamped)


def test_logs_until_the_past_are_empty(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "--name", name, IMAGE, "echo", "x")
    assert engine.docker("logs", "--until", "1h", name).stdout == ""
    assert engine.docker("logs", "--since", "1h", name).stdout == "x\n"


def test_kill_sends_the_signal_that_is_named(engine: EngineProcess, name: str) -> None:
    script = "trap 'exit 12' USR1; while :; do sleep 0.1; done"
    engine.docker("run", "-d", "--name", name, IMAGE, "sh", "-c", script + "")
    engine.docker(
        "exec", name, "sh", "-c", "until grep -q 'SigCgt:.*[1-9a-f]' /proc/1/status; do :; done"
    )
    engine.docker("kill", "-s", "USR1", name)
    assert engine.out("wait", name) == "12"
    done = engine.docker("kill", name, check=False)
    assert "is not running" in done.stderr


def test_wait_returns_exit_codes(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "-d", "--name", name, IMAGE, "sh", "-c", "sleep 0.3; exit 21")
    assert engine.out("wait", name) == "21"
    assert engine.out("wait", name) == "21"


def test_paused_container_says_so(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    engine.docker("pause", name)
    assert "(Paused)" in engine.out("ps", "--filter", f"name={name}", "--format", "{{.Status}}")
    engine.docker("unpause", name)
    assert engine.out("inspect", "-f", "{{.State.Status}}", name) == "running"


def test_restart_gives_a_new_process(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    before = engine.out("inspect", "-f", "{{.State.Pid}}", name)
    engine.docker("restart", "-t", "0", name)
    assert engine.out("inspect", "-f", "{{.State.Pid}}", name) not in (before, "0")


def test_rename_and_duplicate_names(engine: EngineProcess, name: str) -> None:
    engine.docker("create", "--name", name + "x", IMAGE)
    engine.docker("rename", name + "x", name)
    assert engine.out("inspect", "-f", "{{.Name}}", name) == f"/{name}"
    done = engine.docker("create", "--name", name, IMAGE, check=False)
    assert done.returncode == 1
    assert name in done.stderr


def test_update_changes_a_limit(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "-m", "64m", IMAGE, "sleep", "1000")
    engine.docker("update", "-m", "128m", "--memory-swap", "256m", name)
    assert engine.out("inspect", "-f", "{{.HostConfig.Memory}}", name) == str(128 << 20)


def test_running_container_is_removed_only_by_force(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    assert engine.docker("rm", name, check=False).returncode == 1
    assert engine.out("rm", "-f", name) == name
    assert engine.docker("inspect", name, check=False).returncode == 1


def test_files_are_copied_in_and_out(engine: EngineProcess, name: str, tmp_path: Path) -> None:
    engine.docker("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    (tmp_path / "in.txt").write_text("payload")
    engine.docker("cp", str(tmp_path / "in.txt"), f"{name}:/tmp/there.txt")
    assert engine.out("exec", name, "cat", "/tmp/there.txt") == "payload"
    engine.docker("cp", f"{name}:/tmp/there.txt", str(tmp_path / "out.txt"))
    assert (tmp_path / "out.txt").read_text() == "payload"
    engine.docker("exec", name, "sh", "-c", "mkdir -p /tmp/d/e && echo 1 >/tmp/d/e/f")
    engine.docker("cp", f"{name}:/tmp/d", str(tmp_path / "d"))
    assert (tmp_path / "d/e/f").read_text() == "1\n"
    done = engine.docker("cp", f"{name}:/no/such", str(tmp_path / "x"), check=False)
    assert done.returncode == 1
    assert "/no/such" in done.stderr


def test_stats_show_memory_and_pids(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "-m", "64m", IMAGE, "sleep", "1000")
    text = engine.out("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", name)
    assert text.startswith(f"{name} 1 ")
    assert text.endswith("/ 64MiB")


def test_top_lists_the_processes(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    assert "sleep 1000" in engine.out("top", name)


def test_diff_lists_what_changed(engine: EngineProcess, name: str) -> None:
    engine.docker("run", "--name", name, IMAGE, "sh", "-c", "echo >/tmp/new; rm /etc/group")
    assert set(engine.out("diff", name).splitlines()) == {
        "C /tmp",
        "A /tmp/new",
        "C /etc",
        "D /etc/group",
    }


def test_port_of_a_container_without_ports_is_empty(engine: EngineProcess, name: str) -> None:
    engine.docker("create", "--name", name, IMAGE)
    assert engine.out("port", name) == ""


def test_unknown_container_is_named_in_the_error(engine: EngineProcess) -> None:
    for command in ("start", "stop", "rm", "logs", "kill", "wait", "inspect"):
        done = engine.docker(command, "nobody-here", check=False)
        assert done.returncode == 1, command
        assert "nobody-here" in done.stderr, command


def test_many_containers_run_at_once_each_with_its_own_output(engine: EngineProcess) -> None:
    environment = engine.environment()
    runs = [
        subprocess.Popen(
            ["docker", "run", "--rm", "-i", IMAGE, "sh", "-c", f"cat; exit {number}"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(12)
    ]
    outputs = [run.communicate(f"said {number}", 60)[0] for number, run in enumerate(runs)]
    assert outputs == [f"said {number}" for number in range(12)]
    assert [run.returncode for run in runs] == list(range(12))


def test_a_shared_ipc_namespace_comes_with_its_shared_memory(
    engine: EngineProcess, name: str
) -> None:
    script = "echo theirs > /dev/shm/x; sleep 1000"
    engine.docker("run", "-d", "--name", name, "--ipc", "shareable", IMAGE, "sh", "-c", script)
    look = ("cat", "/dev/shm/x")
    joined = ("--ipc", f"container:{name}")
    for _ in range(50):  # until it is written
        done = engine.docker("run", "--rm", *joined, IMAGE, *look, check=False)
        if done.returncode == 0:
            break
    assert done.stdout == "theirs\n"
    engine.docker("run", "--rm", *joined, IMAGE, "sh", "-c", "echo ours > /dev/shm/y")
    assert engine.out("exec", name, "cat", "/dev/shm/y") == "ours"
    assert engine.docker("run", "--rm", IMAGE, *look, check=False).returncode == 1


def test_on_the_hosts_network_a_container_has_the_hosts_name(engine: EngineProcess) -> None:
    own = socket.gethostname()
    assert engine.out("run", "--rm", "--network", "host", IMAGE, "hostname") == own
    assert engine.out("run", "--rm", "--network", "none", IMAGE, "hostname") != own


def test_cp_reaches_the_volume_of_a_running_container(
    engine: EngineProcess, name: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine\n")
    engine.docker("run", "-d", "--name", name, "-v", "/data", IMAGE, "sleep", "1000")
    engine.docker("cp", str(tmp_path / "file"), f"{name}:/data/file")
    assert engine.out("exec", name, "cat", "/data/file") == "mine"
    engine.docker("cp", f"{name}:/data/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "mine\n"


@pytest.mark.parametrize("running", [True, False])
def test_export_has_what_the_container_changed(
    engine: EngineProcess, name: str, tmp_path: Path, *, running: bool
) -> None:
    script = "mkdir /new && echo mine > /new/file && rm /etc/group && touch /done; sleep 1000"
    engine.docker("run", "-d", "--name", name, IMAGE, "sh", "-c", script)
    while engine.docker("exec", name, "test", "-e", "/done", check=False).returncode:
        time.sleep(0.05)
    if not running:
        engine.docker("kill", name)
    engine.docker("export", "-o", str(tmp_path / "root.tar"), name)
    with tarfile.open(tmp_path / "root.tar") as tar:
        file = tar.extractfile("new/file")
        assert file is not None
        assert file.read() == b"mine\n"
        assert "etc/group" not in tar.getnames()
        assert "etc/passwd" in tar.getnames()


def test_dockerenv_is_in_each_container_and_no_change_of_it(
    engine: EngineProcess, name: str, tmp_path: Path
) -> None:
    engine.docker("run", "--name", name, IMAGE, "sh", "-c", "test -x /.dockerenv")
    assert engine.out("diff", name) == ""
    engine.docker("export", "-o", str(tmp_path / "all.tar"), name)
    with tarfile.open(tmp_path / "all.tar") as tar:
        mark = tar.getmember(".dockerenv")
    assert (mark.mode, mark.uid, mark.size) == (0o755, 0, 0)
    assert engine.out("run", "--rm", "--read-only", "--user", "7", IMAGE, "ls", "/.dockerenv")
    removed = "rm -f /.dockerenv && test ! -e /.dockerenv && touch /.dockerenv"
    engine.docker("run", "--rm", IMAGE, "sh", "-c", removed)
