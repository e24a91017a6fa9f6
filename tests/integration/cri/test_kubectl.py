"""Exec, Attach and PortForward as kubectl does them, over websockets and over SPDY."""

import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import websocket

from orlop.api.cri import v1
from tests.integration.cri.kubelet import RefusedError
from tests.integration.cri.pod import Pod, eventually
from tests.integration.engines import EngineProcess

_SERVER = Path(__file__).with_name("api_server.py")
_PROGRAM = ["sh", "-c", "while read -r line; do echo got $line; done"]
_SERVER_OF_POD = ["sh", "-c", "while true; do hostname | nc -l -p 8080; done"]


class Kubectl:
    """kubectl, with one of the two transports."""

    def __init__(self, port: int, home: Path, transport: str) -> None:
        enabled = "true" if transport == "websocket" else "false"
        self._words = ["kubectl", "--server", f"http://127.0.0.1:{port}"]
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "KUBECONFIG": str(home / "none"),
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": enabled,
            "KUBECTL_PORT_FORWARD_WEBSOCKETS": enabled,
        }

    def words(self, *words: str) -> list[str]:
        return [*self._words, *words]

    def __call__(self, *words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.words(*words),
            input=given,
            capture_output=True,
            timeout=60,
            check=False,
            env=self.environment,
        )


@pytest.fixture
def container(pod: Pod) -> str:
    return pod.start("main", *_PROGRAM, stdin=True, stdin_once=True)


@pytest.fixture(params=["websocket", "spdy"])
def kubectl(
    request: pytest.FixtureRequest, engine: EngineProcess, pod: Pod, container: str, tmp_path: Path
) -> Iterator[Kubectl]:
    words = [sys.executable, str(_SERVER), str(engine.run / "cri.sock"), pod.id, container]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Kubectl(int(process.stdout.readline()), tmp_path, request.param)
        finally:
            process.kill()


def test_exec_gives_streams_and_exit_code(kubectl: Kubectl) -> None:
    script = "cat; echo err >&2; exit 7"
    ended = kubectl("exec", "-i", "web", "--", "sh", "-c", script, given=b"in\n")
    assert (ended.stdout, ended.returncode) == (b"in\n", 7)
    assert ended.stderr.splitlines()[0] == b"err"
    missing = kubectl("exec", "web", "--", "/no/such/program")
    assert missing.returncode != 0
    assert b"no such file" in missing.stderr.lower()


def test_exec_carries_much_both_ways(kubectl: Kubectl) -> None:
    data = os.urandom(1 << 20) * 5
    ended = kubectl("exec", "-i", "web", "--", "cat", given=data)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == data


def test_attach_joins_a_running_container(kubectl: Kubectl, pod: Pod, container: str) -> None:
    ended = kubectl("attach", "-i", "web", "-c", "main", given=b"one\ntwo\n")
    assert ended.returncode == 0, ended.stderr
    eventually(lambda: pod.output("main") == "got one\ngot two\n")


def test_a_terminal_has_the_clients_size(kubectl: Kubectl) -> None:
    ours, theirs = pty.openpty()
    os.set_inheritable(theirs, True)
    subprocess.run(["stty", "rows", "41", "cols", "97"], stdin=theirs, check=True)
    script = "sleep 1; stty size; tty; exit 3"
    process = subprocess.Popen(
        kubectl.words("exec", "-it", "web", "--", "sh", "-c", script),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=kubectl.environment,
    )
    os.close(theirs)
    text = b""
    with suppress(OSError):  # EIO at the end
        while data := os.read(ours, 4096):
            text += data
    os.close(ours)
    assert process.wait(timeout=20) == 3 or b"exit code 3" in text
    assert b"41 97" in text
    assert b"/dev/pts/" in text


def test_a_command_ends_with_its_client(kubectl: Kubectl) -> None:
    words = kubectl.words("exec", "web", "--", "sh", "-c", "echo ready; sleep 987125")
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=kubectl.environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    eventually(lambda: not _runs("987125"))


def _runs(word: str) -> bool:
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word.encode() in one.read_bytes().split(b"\0"):
                return True
    return False


@contextmanager
def _forwarded(kubectl: Kubectl, port: int) -> Iterator[int]:
    words = kubectl.words("port-forward", "pod/web", f":{port}")
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=kubectl.environment
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            match = re.search(rb"127.0.0.1:(\d+)", line)
            assert match is not None, line
            yield int(match[1])
        finally:
            process.kill()


def _get(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        with suppress(ConnectionResetError):
            while data := connection.recv(65536):
                answer += data
    return answer


def test_a_port_of_the_pod_is_forwarded(kubectl: Kubectl, pod: Pod) -> None:
    server = pod.start("server", *_SERVER_OF_POD)
    with _forwarded(kubectl, 8080) as port:
        eventually(lambda: _get(port, "/") == b"web\n")  # until it listens
        eventually(lambda: _get(port, "/") == b"web\n")
        pod.kubelet(v1.StopContainerRequest(container_id=server, timeout=0))
        assert _get(port, "/") == b""


def test_a_port_that_nobody_listens_on_is_closed(kubectl: Kubectl) -> None:
    with _forwarded(kubectl, 8081) as port:
        assert _get(port, "/") == b""


def test_ports_are_forwarded_over_channels(pod: Pod) -> None:
    pod.start("server", *_SERVER_OF_POD)

    def answer() -> bytes:
        request = v1.PortForwardRequest(pod_sandbox_id=pod.id, port=[8080])
        url = pod.kubelet(request).url.replace("http:", "ws:")
        client = websocket.create_connection(url, subprotocols=["v4.channel.k8s.io"], timeout=20)
        with closing(client):
            assert client.recv() == b"\0" + (8080).to_bytes(2, "little")
            assert client.recv() == b"\1" + (8080).to_bytes(2, "little")
            answer = client.recv()
            assert isinstance(answer, bytes)
            return answer

    eventually(lambda: answer() == b"\0web\n")  # until it listens


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cmd": []}, "INVALID_ARGUMENT"),
        ({"stdout": False}, "INVALID_ARGUMENT"),
        ({"tty": True, "stderr": True}, "INVALID_ARGUMENT"),
        ({"container_id": "f" * 64}, "NOT_FOUND"),
    ],
)
def test_an_exec_that_cannot_be_gets_no_url(
    pod: Pod, container: str, changes: dict[str, Any], code: str
) -> None:
    request = {"container_id": container, "cmd": ["true"], "stdout": True, **changes}
    with pytest.raises(RefusedError) as refused:
        pod.kubelet(v1.ExecRequest(**request))
    assert refused.value.code == code


def test_urls_are_good_once(pod: Pod, container: str) -> None:
    request = v1.ExecRequest(container_id=container, cmd=["true"], stdout=True)
    url = pod.kubelet(request).url
    host, _, path = url.removeprefix("http://").partition("/")
    address, _, port = host.partition(":")
    assert address == "127.0.0.1"
    answers = []
    for _ in range(2):
        answers.append(_get(int(port), f"/{path}").split(b"\r\n")[0])
    assert answers[0].startswith(b"HTTP/1.1 400")  # no upgrade
    assert answers[1].startswith(b"HTTP/1.1 404")
