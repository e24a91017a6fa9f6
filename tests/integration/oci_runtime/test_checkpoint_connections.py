"""Checkpoint and restore of what reaches outside: streams, terminals, sockets, namespaces."""

import contextlib
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.oci_runtime.images import COUNTER, Images, ended
from tests.integration.oci_runtime.program import OCIBundle, Program, wait_for

CONNECT = """
server = socket.create_server(("127.0.0.1", 7000))
near = socket.create_connection(("127.0.0.1", 7000))
far, _ = server.accept()
"""
ECHO = "near.send(str(number).encode()) and far.recv(9).decode()"


@pytest.fixture
def images(program: Program, bundle: OCIBundle) -> Images:
    return Images(program, bundle)


@pytest.fixture
def network(program: Program) -> Iterator[str]:
    """A network namespace with its loopback interface up, by its path."""
    name = f"orlop-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield f"/run/netns/{name}"
    finally:
        for made in program.ids:
            program.call("delete", "--force", made)
        subprocess.run(["ip", "netns", "delete", name], check=True)


def read_lines(fd: int, count: int) -> list[str]:
    """Read until there are *count* whole lines, and return them."""
    data = b""
    while data.count(b"\n") < count:
        part = os.read(fd, 4096)
        assert part, data
        data += part
    return data.decode().splitlines()[:count]


@contextlib.contextmanager
def with_pipes(program: Program, *words: str | Path) -> Iterator[Callable[[str], str]]:
    """Run a command line with pipes for streams; gives what says a line and returns the answer."""
    here, there = os.pipe(), os.pipe()

    def talk(line: str) -> str:
        os.write(here[1], f"{line}\n".encode())
        return read_lines(there[0], 1)[0]

    command = [program.script, "--root", program.root, *words]
    null = subprocess.DEVNULL
    try:
        subprocess.run(command, stdin=here[0], stdout=there[1], stderr=null, check=True, timeout=60)
        yield talk
    finally:
        for fd in (*here, *there):
            os.close(fd)


@contextlib.contextmanager
def on_terminal(program: Program, *words: str | Path) -> Iterator[Callable[[str], str]]:
    """Run a command line on a terminal, and do as with_pipes() does."""
    master, slave = pty.openpty()
    settings = termios.tcgetattr(slave)
    settings[1] = settings[3] = 0  # output as it is, and no echo
    settings[3] |= termios.ICANON
    termios.tcsetattr(slave, termios.TCSANOW, settings)

    def talk(line: str) -> str:
        os.write(master, f"{line}\n".encode())
        return read_lines(master, 1)[0]

    try:
        command = [program.script, "--root", program.root, *words]
        subprocess.run(command, stdin=slave, stdout=slave, stderr=slave, check=True, timeout=60)
        yield talk
    finally:
        os.close(slave)
        os.close(master)


def checkpointed(images: Images, name: str) -> bool:
    """Checkpoint a container with a connection; False where CRIU is too old for the kernel.

    Before 4.2 it asks every socket for what, since Linux 6.16, only some have.
    """
    words = ("checkpoint", "--image-path", images.path, "--tcp-established", name)
    done = images.program.call(*words)
    if done.returncode:
        assert "sockets: Can't get 1:16 opt: Operation not supported" in done.stderr
        assert images.program.state(name)["status"] == "running"
        images.go_on()
    return done.returncode == 0


def test_a_connection_goes_on(images: Images) -> None:
    name = images.counting_over(CONNECT, ECHO)
    if checkpointed(images, name):
        images.restore(name, "--tcp-established")
        images.go_on()


def test_what_criu_refuses_leaves_the_container_running(program: Program, images: Images) -> None:
    name = images.counting_over(CONNECT, ECHO)
    said = program.refused("checkpoint", "--image-path", images.path, name)
    assert "Connected TCP socket" in said or "Can't get 1:16 opt" in said
    assert f"log file: {images.path}/dump.log" in said
    assert program.state(name)["status"] == "running"
    images.go_on()


def test_a_connection_over_a_network_namespace_given_by_path_goes_on(
    program: Program, images: Images, network: str
) -> None:
    images.bundle.namespace("network", network)
    serve = (
        "import socket; server = socket.create_server(('127.0.0.1', 7001)); print(flush=True)\n"
        "far, _ = server.accept()\ntry:\n while part := far.recv(9): far.send(part)\n"
        "except ConnectionError: pass  # the end of one that is killed with an answer on its way"
    )
    command = ["nsenter", f"--net={network}", sys.executable, "-ISc", serve]
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE)) as server:
        assert server.stdout is not None
        server.stdout.readline()
        prepare = 'near = socket.create_connection(("127.0.0.1", 7001))'
        exchange = "near.send(str(number).encode()) and near.recv(9).decode()"
        name = images.counting_over(prepare, exchange)
        if checkpointed(images, name):
            images.restore(name, "--tcp-established")
            images.go_on()
            pid = program.pid(name)
            assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(network).st_ino
        program.ok("kill", name, "KILL")
        assert server.wait(timeout=10) == 0


def test_a_network_namespace_given_by_path_is_joined_again(
    program: Program, images: Images, network: str
) -> None:
    images.bundle.namespace("network", network)
    name = images.counting()
    images.checkpoint(name)
    images.restore(name)
    images.go_on()
    assert os.stat(f"/proc/{program.pid(name)}/ns/net").st_ino == os.stat(network).st_ino


def test_a_restore_needs_the_network_namespace_that_it_is_to_join(
    program: Program, images: Images, network: str
) -> None:
    images.bundle.namespace("network", network)
    name = images.counting()
    images.checkpoint(name)
    images.bundle.namespace("network", "/run/netns/orlop-absent")
    with open(os.devnull, "w") as null:
        said = program.refused(*images.restoring(name), stdout=null)
    assert "/run/netns/orlop-absent" in said


def test_an_external_unix_socket_is_still_connected_or_nothing_is_left(
    program: Program, images: Images, tmp_path: Path
) -> None:
    place = tmp_path / "s"  # criu connects by the peer's own name
    place.mkdir()
    images.bundle.mount(str(place), place)
    namespaces = images.bundle.linux["namespaces"]  # criu sees no peer in another network
    images.bundle.linux["namespaces"] = [n for n in namespaces if n["type"] != "network"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"{place}/log")
        prepare = (
            f"near = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\nnear.connect('{place}/log')"
        )
        name = images.counting_over(prepare, "near.send(str(number).encode()) and number")
        listener.recv(9)
        assert "unix" in program.refused("checkpoint", "--image-path", images.path, name).lower()
        images.checkpoint(name, "--ext-unix-sk")
        reached = images.counted()[-1]
        images.restore(name, "--ext-unix-sk")
        listener.settimeout(10)
        wait_for(lambda: int(listener.recv(9)) > reached + 2)
        images.checkpoint(name, "--ext-unix-sk")
    (place / "log").unlink()
    with open(os.devnull, "w") as null:
        said = program.refused(*images.restoring(name, "--ext-unix-sk"), stdout=null)
    assert f"log file: {images.path}/restore.log" in said
    assert "Can't connect" in said
    assert program.ok("list", "--quiet") == ""


def test_other_pipes_take_the_place_of_the_streams(program: Program, images: Images) -> None:
    images.bundle.process["args"] = ["sh", "-c", "while read line; do echo $$ $line; done"]
    name = program.id()
    with with_pipes(program, "run", "--detach", "--bundle", images.bundle.write(), name) as talk:
        assert talk("one") == "1 one"
        images.checkpoint(name)
    with with_pipes(program, *images.restoring(name)) as talk:
        assert talk("two") == "1 two"
    program.ended(name)


def test_a_file_of_the_hosts_goes_on_as_output(program: Program, images: Images) -> None:
    images.bundle.process["args"] = ["sh", "-c", COUNTER.replace(">> /tmp/count", "")]
    name = program.id()
    output = program.folder / "output"
    with open(output, "a") as file:
        command = ("run", "--detach", "--bundle", images.bundle.write(), name)
        program.ok(*command, stdout=file, stderr=file)
        images.count = output
        images.go_on()
        images.checkpoint(name)
        program.ok(*images.restoring(name), stdout=file, stderr=file)
    images.go_on()


def receive_terminal(listener: socket.socket) -> int:
    connection, _ = listener.accept()
    with connection:
        _, fds, _, _ = socket.recv_fds(connection, 100, 1)
    return fds[0]


def test_a_terminal_is_handed_over_again(program: Program, images: Images) -> None:
    images.bundle.process["terminal"] = True
    images.bundle.process["args"] = [
        "sh",
        "-c",
        "stty -echo; while read line; do echo $$ $line; done",
    ]
    name = program.id()
    console = program.folder / "console"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(console))
        listener.listen()
        words = ("--console-socket", console)
        program.ok("run", "--detach", *words, "--bundle", images.bundle.write(), name)
        master = receive_terminal(listener)
        wait_for(lambda: not termios.tcgetattr(master)[3] & termios.ECHO)
        os.write(master, b"one\n")
        assert read_lines(master, 1) == ["1 one"]
        images.checkpoint(name)
        os.close(master)
        program.ok(*images.restoring(name, *words))
        master = receive_terminal(listener)
        os.write(master, b"two\n")
        assert read_lines(master, 1) == ["1 two"]
        os.close(master)


def test_a_restore_in_the_foreground_ends_as_the_process_does(
    program: Program, images: Images
) -> None:
    name = images.running("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")
    wait_for(lambda: "trap" in Path(f"/proc/{program.pid(name)}/cmdline").read_text())
    images.checkpoint(name)
    bundle = images.bundle.write()
    words: list[str | Path] = ["restore", "--image-path", images.path, "--bundle", bundle, name]
    command = [program.script, "--root", program.root, *words]
    null = subprocess.DEVNULL
    with ended(subprocess.Popen(command, stdin=null, stdout=null)) as restored:
        wait_for(lambda: program.ok("list", "--quiet") == f"{name}\n" and program.pid(name) > 0)
        restored.send_signal(signal.SIGTERM)
        assert restored.wait(timeout=10) == 7
    assert program.ok("list", "--quiet") == ""


def test_a_terminal_of_the_callers_takes_the_place_of_another(
    program: Program, images: Images
) -> None:
    """A shell job: the terminal's master, and its session, are outside."""
    script = "while read line; do echo $$ $line; done"
    images.bundle.process["args"] = ["sh", "-c", script]
    name = program.id()
    with on_terminal(program, "run", "--detach", "--bundle", images.bundle.write(), name) as talk:
        assert talk("one") == "1 one"
        program.refused("checkpoint", "--image-path", images.path, name)
        images.checkpoint(name, "--shell-job")
    with on_terminal(program, *images.restoring(name, "--shell-job")) as talk:
        assert talk("two") == "1 two"
        program.ok("kill", name, "KILL")
