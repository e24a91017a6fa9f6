"""`--runtime vm`: the same commands, and a kernel of the container's own."""

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.microvm.machine import Kind
from tests.integration.engines import EngineProcess, processes_of
from tests.integration.microvm.conftest import ROOT

VM = ("--runtime", "vm", "--network", "none")
IMAGE = "busybox:test"


@pytest.fixture(scope="module")
def engine(
    kind: Kind, busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineProcess]:
    """An engine on whose host `orlop vm setup` has run."""
    assert kind.kernel.startswith(f"{ROOT}/microvm/")
    engine = EngineProcess(tmp_path_factory.mktemp("vm"))
    engine.root.mkdir(0o700)
    (engine.root / "microvm").symlink_to(ROOT / "microvm")
    try:
        engine.start()
        engine.docker("load", "-i", str(busybox_archive))
        yield engine
    finally:
        engine.close()


def orlop(
    engine: EngineProcess, *words: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orlop", *words],
        env=engine.environment(),
        input=stdin,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_run_gives_output_errors_and_exit_code_from_another_kernel(engine: EngineProcess) -> None:
    script = "uname -r; cat; echo oh >&2; exit 7"
    done = orlop(engine, "run", "--rm", "-i", *VM, IMAGE, "sh", "-c", script, stdin="in\n")
    release, echoed = done.stdout.splitlines()
    assert release != os.uname().release
    assert (echoed, done.stderr, done.returncode) == ("in", "oh\n", 7)


def test_a_missing_program_ends_with_127_and_a_reason(engine: EngineProcess) -> None:
    done = orlop(engine, "run", "--rm", *VM, IMAGE, "no-such")
    assert done.returncode == 127
    assert 'exec: "no-such": executable file not found in $PATH' in done.stderr


def test_a_container_in_a_machine_lives_as_every_other(engine: EngineProcess) -> None:
    script = "trap 'echo bye; exit 9' TERM; echo ready; while true; do sleep 0.1; done"
    assert orlop(engine, "run", "-d", "--name", "life", *VM, IMAGE, "sh", "-c", script).stdout
    try:
        assert await_log(engine, "life") == "ready\n"
        assert "life" in orlop(engine, "ps").stdout
        ran = orlop(engine, "exec", "-i", "life", "sh", "-c", "cat; ps; exit 5", stdin="x\n")
        assert ran.returncode == 5
        assert ran.stdout.startswith("x\nPID")
        assert "trap" in ran.stdout, "the command is not in the container's pid namespace"
        assert orlop(engine, "stop", "life").returncode == 0
        assert orlop(engine, "logs", "life").stdout == "ready\nbye\n"
        shown = "{{.State.ExitCode}} {{.HostConfig.Runtime}}"
        assert engine.out("inspect", "life", "--format", shown) == "9 vm"
    finally:
        assert orlop(engine, "rm", "-f", "life").returncode == 0


def test_what_a_container_has_written_outlives_its_machine(engine: EngineProcess) -> None:
    script = "cat /kept; echo $RANDOM > /kept; cat /kept; sleep 1000"
    orlop(engine, "run", "-d", "--name", "kept", *VM, IMAGE, "sh", "-c", script)
    try:
        first = await_log(engine, "kept")
        assert first.strip().isdecimal()
        assert orlop(engine, "kill", "kept").returncode == 0
        assert orlop(engine, "start", "kept").returncode == 0
        again = await_log(engine, "kept", longer_than=first)
        assert again.startswith(first + first)
    finally:
        orlop(engine, "rm", "-f", "kept")


def test_a_terminal_has_the_size_of_the_clients_and_takes_input(engine: EngineProcess) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 101, 0, 0))
    script = "sleep 1; stty size; read word; echo got $word; kill -INT $$; sleep 10"
    words = ["run", "--rm", "-it", *VM, IMAGE, "sh", "-c", script]
    client = subprocess.Popen(
        [sys.executable, "-m", "orlop", *words],
        env=engine.environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = read_until(ours, b"41 101")
    os.write(ours, b"hello\n")
    assert b"got hello" in seen + read_until(ours, b"got hello")
    assert client.wait(60) == 130
    os.close(ours)


def test_a_machine_is_on_its_network_with_names_ports_and_egress_lists(
    engine: EngineProcess,
) -> None:
    port = free_port()
    script = "mkdir /w; echo hello > /w/index.html; echo up; httpd -f -h /w"
    assert orlop(engine, "network", "create", "mine").returncode == 0
    mine = ("--network", "mine")
    options = ("--name", "web", "-p", f"127.0.0.1:{port}:80", *mine, *VM[:2])
    orlop(engine, "run", "-d", *options, IMAGE, "sh", "-c", script)
    try:
        await_log(engine, "web")
        fetch = ("wget", "-qO-", "http://web/")
        inside = orlop(engine, "run", "--rm", *mine, IMAGE, *fetch).stdout
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert (inside, answer.read()) == ("hello\n", b"hello\n")
        assert orlop(engine, "exec", "web", *fetch).stdout == "hello\n"
        script = "nslookup web; timeout 1 wget -qO- http://web/ || echo none"
        alone = ("--egress", "10.1.2.3", *mine, *VM[:2])
        said = orlop(engine, "run", "--rm", *alone, IMAGE, "sh", "-c", script).stdout
        assert "can't find web: NXDOMAIN" in said
        assert said.endswith("none\n")
    finally:
        orlop(engine, "rm", "-f", "web")
        assert orlop(engine, "network", "rm", "mine").returncode == 0


def test_a_command_that_comes_early_waits_for_the_machine(engine: EngineProcess) -> None:
    orlop(engine, "run", "-d", "--name", "early", *VM, IMAGE, "sleep", "1000")
    try:
        done = orlop(engine, "exec", "early", "echo", "here")
        assert (done.returncode, done.stdout, done.stderr) == (0, "here\n", "")
    finally:
        orlop(engine, "rm", "-f", "early")


def test_machines_outlive_engine_and_shim_but_not_qemu(engine: EngineProcess) -> None:
    orlop(engine, "run", "-d", "--name", "last", *VM, IMAGE, "sh", "-c", "echo up; sleep 1000")
    try:
        await_log(engine, "last")
        jailed = int(engine.out("inspect", "last", "--format", "{{.State.Pid}}"))
        engine.stop(signal.SIGKILL)
        for pid in processes_of(engine.run):
            if "orlop.shim" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
        engine.start()
        assert orlop(engine, "exec", "last", "echo", "here").stdout == "here\n"
        (qemu,) = Path(f"/proc/{jailed}/task/{jailed}/children").read_text().split()
        os.kill(int(qemu), signal.SIGKILL)
        assert engine.out("wait", "last") == "125"
        assert "the virtual machine has ended" in orlop(engine, "logs", "last").stderr
    finally:
        assert orlop(engine, "rm", "-f", "last").returncode == 0


def test_kill_ends_the_machine(engine: EngineProcess) -> None:
    orlop(engine, "run", "-d", "--name", "loop", *VM, IMAGE, "sh", "-c", "echo up; sleep 1000")
    try:
        assert await_log(engine, "loop") == "up\n"
        jailed = int(engine.out("inspect", "loop", "--format", "{{.State.Pid}}"))
        status = Path(f"/proc/{jailed}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "\nUid:\t0" not in status
        qemu = Path(f"/proc/{jailed}/task/{jailed}/children").read_text().split()
        assert qemu
        assert orlop(engine, "kill", "loop").returncode == 0
        assert engine.out("wait", "loop") == "137"
        assert not any(Path(f"/proc/{pid}").exists() for pid in qemu)
    finally:
        orlop(engine, "rm", "-f", "loop")


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--privileged",), "--privileged"),
        (("-v", "/tmp:/host"), "volumes and bind mounts"),
        (("--pid", "host"), "--pid"),
        (("--network", "host"), "--network host"),
    ],
)
def test_what_a_machine_does_not_have_is_refused(
    engine: EngineProcess, option: tuple[str, ...], named: str
) -> None:
    options = option if "--network" in option else ("--network", "none", *option)
    done = orlop(engine, "run", "--rm", "--runtime", "vm", *options, IMAGE, "true")
    assert done.returncode == 125
    assert f"the runtime vm does not have {named}" in done.stderr


def await_log(engine: EngineProcess, name: str, *, longer_than: str = "") -> str:
    deadline = time.monotonic() + 60
    while len(text := orlop(engine, "logs", name).stdout) <= len(longer_than):
        assert time.monotonic() < deadline, engine.log()[-2000:]
        time.sleep(0.05)
    return text


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def read_until(fd: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        assert select.select([fd], [], [], 60)[0], seen
        seen += os.read(fd, 4096)
    return seen
