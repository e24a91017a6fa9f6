"""A shim that may open few files refuses what it cannot have, and goes on with the rest."""

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.shim.launch import launch

from .harness import FailedError, Shim, eventually

_FEW = 96


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    """A shim whose processes may open few files."""
    child = os.fork()
    if child == 0:  # whoever lowers this limit may not raise it again
        with contextlib.suppress(BaseException):
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # pytest may have more than few
            resource.setrlimit(resource.RLIMIT_NOFILE, (_FEW, _FEW))
            launch(str(tmp_path / "run"))
        os._exit(0)
    os.waitpid(child, 0)
    shim = Shim(tmp_path)
    yield shim
    shim.close()


def _start_all(shim: Shim, names: list[str]) -> None:
    """Start containers, more than there are descriptors for, and note which ones run."""
    for number in range(_FEW):
        shim.start(f"c{number}", "sh", "-c", "while sleep 0.1; do echo tick; done")
        names.append(f"c{number}")


def test_a_container_too_many_is_refused_and_the_others_keep_their_logs(shim: Shim) -> None:
    stdio_pid = shim.stdio_pid
    names: list[str] = []
    with pytest.raises(FailedError, match="open files") as refused:
        _start_all(shim, names)
    assert refused.value.kind == "exhausted"
    assert len(names) > 5
    with pytest.raises(FailedError, match="open files"):
        shim.execute("c0", "e", "true")
    seen = {name: shim.output(name) for name in names}
    eventually(lambda: all(len(shim.output(name)) > len(seen[name]) for name in names))
    assert shim.stdio_pid == stdio_pid
    for name in names[:2]:
        shim.request(op="signal", id=name, signal=9)
        shim.wait_exit(name)
    assert shim.run_to_end("again", "echo", "x")["status"] == 0
    assert shim.output("again") == "x\n"


def test_clients_too_many_are_refused_and_the_first_ones_stay(shim: Shim) -> None:
    shim.start("c", "sh", "-c", "while sleep 0.1; do echo tick; done")
    stdio_pid = shim.stdio_pid
    request = {
        "op": "attach", "key": "c", "wait": False, "stdin": False, "stdout": True,
        "stderr": True, "detach_keys": "", "pending": "",
    }  # fmt: skip
    with contextlib.ExitStack() as stack, shim.stdio() as stdio:
        clients: list[socket.socket] = []
        while len(clients) < _FEW:
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            with theirs:
                answer = stdio.call(request, [theirs.fileno()])
            if "error" in answer:
                break
            clients.append(ours)
        assert answer["error"]["kind"] == "exhausted"
        assert "too many open files" in answer["error"]["message"].lower()
        clients[0].settimeout(20)
        assert clients[0].recv(1)
        assert stdio.call({"op": "hello"})["ok"]["pid"] == stdio_pid
