"""Terminals, descriptors and sockets: what passes between the caller and a process."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.api.terminal import Terminal
from tests.integration.oci_runtime.program import OCIBundle, Program


class Here:
    def environment(self) -> dict[str, str]:
        return dict(os.environ)


@contextmanager
def on_terminal(program: Program, *words: str | Path) -> Iterator[Terminal]:
    front = [str(program.script), "--root", str(program.root)]
    with Terminal(Here(), *map(str, words), front=front) as terminal:
        yield terminal


@pytest.fixture
def console(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket at console.sock that waits for a terminal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "console.sock"))
        listener.listen()
        listener.settimeout(20)
        yield listener


def receive(listener: socket.socket) -> tuple[bytes, int]:
    """Return the name and the descriptor that somebody has sent."""
    connection, _ = listener.accept()
    with connection:
        name, fds, _, _ = socket.recv_fds(connection, 100, 1)
    return name, fds[0]


def read_all(fd: int) -> str:
    """Read a terminal's master until nobody has the other end."""
    output = b""
    try:
        while part := os.read(fd, 4096):
            output += part
    except OSError:  # EIO
        pass
    os.close(fd)
    return output.decode()


def test_a_created_containers_terminal_goes_to_the_console_socket(
    program: Program, bundle: OCIBundle, console: socket.socket, tmp_path: Path
) -> None:
    bundle.process.update(terminal=True, consoleSize={"height": 20, "width": 77})
    bundle.process["args"] = ["sh", "-c", "tty; stty size"]
    name = program.create(bundle, "--console-socket", tmp_path / "console.sock")
    sent, master = receive(console)
    assert sent == b"/dev/ptmx"
    program.ok("start", name)
    assert read_all(master).split() == ["/dev/pts/0", "20", "77"]


def test_a_detached_processs_terminal_goes_to_the_console_socket(
    program: Program, bundle: OCIBundle, console: socket.socket, tmp_path: Path
) -> None:
    name = program.running(bundle)
    path = tmp_path / "console.sock"
    program.ok("exec", "-d", "-t", "--console-socket", path, name, "sh", "-c", "tty; echo end")
    assert read_all(receive(console)[1]).split() == ["/dev/pts/0", "end"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_nobody_serves_is_refused(
    program: Program, bundle: OCIBundle, terminal: bool
) -> None:
    bundle.process["terminal"] = terminal
    words = [] if terminal else ["--console-socket", "/none"]
    message = program.refused("create", *words, "--bundle", bundle.write(), program.id())
    assert ("cannot allocate tty" if terminal else "cannot use console socket") in message
    assert list(program.root.glob("*")) == []


def test_a_console_socket_that_is_not_there_leaves_nothing(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.process["terminal"] = True
    words = ("--console-socket", "/none", "--bundle", bundle.write(), program.id())
    assert "cannot send a descriptor to /none" in program.refused("create", *words)
    assert list(program.root.iterdir()) == []


def test_a_pid_file_that_cannot_be_written_leaves_nothing(
    program: Program, bundle: OCIBundle
) -> None:
    words = ("--pid-file", "/none/pid", "--bundle", bundle.write(), program.id())
    assert "cannot write /none/pid" in program.refused("create", *words)
    assert list(program.root.iterdir()) == []


def test_run_on_a_terminal_is_the_containers_own(program: Program, bundle: OCIBundle) -> None:
    bundle.process["terminal"] = True
    bundle.process["args"] = ["sh"]
    name = program.id()
    with on_terminal(program, "run", "--bundle", bundle.write(), name) as terminal:
        terminal.send("PS1=; tty\n")
        terminal.expect("/dev/pts/0")
        terminal.resize(rows=33, columns=99)
        terminal.send("until stty size | grep 33; do :; done\n")
        terminal.expect("33 99")
        terminal.send("sh -c 'echo wa\"\"iting; exec sleep 600'\n")
        terminal.expect("waiting")  # sooner, the byte would be the shell's
        terminal.send("\x03")  # an interrupt is the container's to handle
        terminal.send("exit 5\n")
        assert terminal.wait() == 5
    assert program.ok("list", "-q") == ""


def test_exec_on_a_terminal(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    with on_terminal(program, "exec", "--tty", name, "sh") as terminal:
        terminal.resize(rows=33, columns=99)
        terminal.send("until stty size | grep 33; do :; done; tty\n")
        terminal.expect("33 99")
        terminal.expect("/dev/pts/0")
        terminal.send("exit 6\n")
        assert terminal.wait() == 6


def test_a_process_without_a_terminal_is_not_given_the_callers(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.process["args"] = ["sh", "-c", "ls -l /proc/self/fd/0 /proc/self/fd/1; tty; cat"]
    with on_terminal(program, "run", "--bundle", bundle.write(), program.id()) as terminal:
        terminal.expect("0 -> pipe:")
        terminal.expect("1 -> pipe:")
        terminal.expect("not a tty")
        terminal.send("echoed\n\x04")
        terminal.expect("echoed.*echoed".replace(".", "[\\s\\S]"))
        assert terminal.wait() == 0


def test_a_terminal_of_a_program_in_the_foreground_adds_no_carriage_returns(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.process["terminal"] = True
    look = ["sh", "-c", "stty -a 2>/dev/null | tr ' ;' '\\n\\n' | grep onlcr"]
    bundle.process["args"] = look
    assert program.ok("run", "--bundle", bundle.write(), program.id()) == "-onlcr\n"
    bundle.process["terminal"] = False
    name = program.running(bundle)
    assert program.ok("exec", "--tty", name, *look) == "-onlcr\n"


def test_on_a_terminal_of_the_callers_each_newline_has_its_carriage_return(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.process["terminal"] = True
    bundle.process["args"] = ["printf", "one\\ntwo\\n"]
    with on_terminal(program, "run", "--bundle", bundle.write(), program.id()) as terminal:
        terminal.expect("one\r\ntwo\r\n")
        assert terminal.wait() == 0


def test_a_terminal_at_a_console_socket_is_left_as_the_kernel_makes_it(
    program: Program, bundle: OCIBundle, console: socket.socket, tmp_path: Path
) -> None:
    bundle.process["terminal"] = True
    bundle.process["args"] = ["echo", "one"]
    name = program.create(bundle, "--console-socket", tmp_path / "console.sock")
    _, master = receive(console)
    program.ok("start", name)
    assert read_all(master) == "one\r\n"


def test_more_output_than_a_pipe_holds_arrives_whole(program: Program, bundle: OCIBundle) -> None:
    bundle.process["args"] = ["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; exit 3"]
    done = program.call("run", "--bundle", bundle.write(), program.id())
    assert (done.returncode, len(done.stdout)) == (3, 3_000_000)
    bundle.process["terminal"] = True
    bundle.process["args"][-1] = "head -c 300000 /dev/zero | tr '\\0' x; exit 3"
    with on_terminal(program, "run", "--bundle", bundle.write(), program.id()) as terminal:
        terminal.expect("x{300000}")
        assert terminal.wait() == 3


def test_what_a_terminal_says_is_not_lost_where_it_is_read_late(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.process["terminal"] = True
    bundle.process["args"] = ["sh", "-c", "head -c 16000 /dev/zero | tr '\\0' x; exit 3"]
    command: list[str | Path] = [program.script, "--root", program.root]
    command += ["run", "--bundle", bundle.write(), program.id()]
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with open(writer, "wb") as stdout:
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout)
    with open(reader, "rb") as pipe:
        await_end_of_child(running)  # the pipe is full, and the terminal has the rest
        time.sleep(0.3)
        assert len(pipe.read()) == 16000
    assert running.wait(20) == 3


def await_end_of_child(running: subprocess.Popen[bytes]) -> None:
    """Wait until a child of *running* has ended, or it has itself."""
    deadline = time.monotonic() + 20
    while running.poll() is None:
        assert time.monotonic() < deadline, f"process {running.pid} has no child that has ended"
        with suppress(FileNotFoundError):
            listed = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
            if any(") Z " in Path(f"/proc/{pid}/stat").read_text() for pid in listed):
                return
        time.sleep(0.02)


def test_standard_input_is_the_containers(program: Program, bundle: OCIBundle) -> None:
    bundle.process["args"] = ["cat"]
    command: list[str | Path] = [program.script, "--root", program.root]
    command += ["run", "--bundle", bundle.write(), program.id()]
    done = subprocess.run(command, input=b"given", capture_output=True, check=True)
    assert done.stdout == b"given"


def test_preserved_descriptors_reach_the_program_and_no_others(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.process["args"] = ["sh", "-c", "ls /proc/self/fd; echo said >&4"]
    with ExitStack() as undo:
        reader, writer = os.pipe()
        undo.callback(os.close, reader)
        command = ["run", "--preserve-fds", "2", "--bundle", str(bundle.write()), program.id()]
        script = 'exec 3</dev/null 4>&"$1" 5>&"$1"; shift; exec "$@"'
        front: list[str | Path] = ["bash", "-c", script, "bash", str(writer)]
        done = subprocess.run(
            [*front, program.script, "--root", program.root, *command],
            capture_output=True,
            pass_fds=(writer,),
            check=True,
            text=True,
        )
        os.close(writer)
        assert os.read(reader, 100) == b"said\n"
        assert os.read(reader, 100) == b""
    assert {"3", "4"} <= set(done.stdout.split()) <= {"0", "1", "2", "3", "4", "5"}
    assert "preserved-fd" in program.refused(*command)


def test_sockets_of_systemd_are_passed_on(program: Program, bundle: OCIBundle) -> None:
    script = "echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; readlink /proc/self/fd/3"
    bundle.process["args"] = ["sh", "-c", script]
    script = 'exec 3</dev/null; export LISTEN_FDS=1 LISTEN_FDNAMES=a LISTEN_PID=$$; exec "$@"'
    command: list[str | Path] = ["bash", "-c", script, "bash", program.script]
    command += ["--root", program.root, "run", "--bundle", bundle.write(), program.id()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1 1 a\n/dev/null\n"


def test_a_pidfd_is_sent_to_who_wants_it(
    program: Program, bundle: OCIBundle, console: socket.socket, tmp_path: Path
) -> None:
    name = program.running(bundle)
    path = tmp_path / "console.sock"
    with open(os.devnull, "r+") as null:
        words = ("--detach", "--pidfd-socket", path, name, "sleep", "606")
        program.ok("exec", *words, stdout=null, stderr=null)
    _, pidfd = receive(console)
    info = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    found = re.search(r"^Pid:\t(\d+)$", info, re.MULTILINE)
    assert found
    assert Path(f"/proc/{found[1]}/comm").read_text() == "sleep\n"
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)


@pytest.mark.parametrize("how", ["start", "run", "attached"])
def test_a_service_manager_is_told_when_the_container_is_ready(
    program: Program, bundle: OCIBundle, tmp_path: Path, how: str
) -> None:
    bundle.mount("/usr", "/usr", "ro")
    for name in ("lib", "lib64"):
        (bundle.root / name).symlink_to(f"usr/{name}")
    bundle.process["args"] = ["/usr/bin/python3", "-ISc", SAY_READY]
    program.environment["NOTIFY_SOCKET"] = str(tmp_path / "manager.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "manager.sock"))
        manager.settimeout(20)
        said: list[bytes] = []
        listening = threading.Thread(target=listen, args=(manager, said))
        listening.start()
        if how == "start":
            name = program.create(bundle)
            program.ok("start", name)
        else:
            name = program.id()
            option = "-d" if how == "run" else "--keep"
            with open(os.devnull, "r+") as null:
                words = ("run", option, "-b", bundle.write(), name)
                program.ok(*words, stdout=null, stderr=null)
        listening.join()
    pid = program.pid(name) if how != "attached" else said[1].removeprefix(b"MAINPID=").strip()
    assert said == [b"READY=1\n", f"MAINPID={int(pid)}\n".encode(), b"BARRIER=1"]


SAY_READY = """
import os, socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
    manager.connect(os.environ["NOTIFY_SOCKET"])
    manager.send(b"STATUS=not for you")
    manager.send(b"STATUS=nor this\\nREADY=1\\nX=y")
time.sleep(0.2)
"""


def listen(manager: socket.socket, said: list[bytes]) -> None:
    """Note what is said until the barrier, which is let go of."""
    while not said or said[-1] != b"BARRIER=1":
        message, fds, _, _ = socket.recv_fds(manager, 4096, 1)
        said.append(message)
        for fd in fds:
            os.close(fd)
