"""Clients of `sandboxes.sock` that ask for too much, or for nonsense; others are served."""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from orlop.client.direct import Connection
from orlop.errors import ExhaustedError, InvalidArgumentError
from orlop.sandbox.way import Command
from orlop.sandbox.ways.direct import DirectHandle, start_message
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.direct.conftest import serving
from tests.integration.sandbox.direct.ways import Given, Once, direct, run
from tests.integration.sandbox.faces import ids, wait_until

Options = Callable[..., Given]
_MOST_OPEN = 1024
_WAIT_S = 120
_NOBODY = 65534
_DEEP = 200_000
#: What programs of ours begin with: a connection, and a request to start `sleep`.
_PROGRAM = """
import json, os, socket, sys, time
path, start = sys.argv[1], json.loads(sys.argv[2])
def connected():
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    made.connect(path)
    return made
def asked(connection, message, fds=()):
    socket.send_fds(connection, [json.dumps({**message, "seq": 1}).encode()], fds)
reader, writer = os.pipe()
streams = [reader, writer, writer]
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """One that may have few descriptors, so that it does not take many to use them up."""
    within = ("sh", "-c", f'ulimit -n {_MOST_OPEN}; exec "$@"', "sh")
    with serving(tmp_path_factory.mktemp("e"), within=within) as process:
        yield process


@pytest.fixture
def program(
    engine: EngineProcess, given: Options
) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """What starts a program by its source; in the end it is killed, and nothing of it is left."""
    assert run(Once(given()), "true").exit_code == 0
    wait_until(lambda: not ids(engine), "sandboxes of an earlier test are left")
    before, started = _open(engine), []

    def start(source: str) -> "subprocess.Popen[str]":
        words = [sys.executable, "-c", _PROGRAM + source, _path(engine)]
        words.append(json.dumps(start_message(given())))
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    wait_until(lambda: not ids(engine), "sandboxes are left")
    wait_until(lambda: _open(engine) <= before, "descriptors are left")


def _path(engine: EngineProcess) -> str:
    return str(engine.run / "sandboxes.sock")


def _open(engine: EngineProcess) -> int:
    assert engine.process is not None
    return len(os.listdir(f"/proc/{engine.process.pid}/fd"))


def _line(program: "subprocess.Popen[str]") -> str:
    assert program.stdout is not None
    return program.stdout.readline()


def _others_are_served(given: Options) -> None:
    for turn in range(10):
        assert run(Once(given()), "echo", f"{turn}").stdout == b"%d\n" % turn
    with direct(given()) as box:
        assert run(box, "echo", "on").stdout == b"on\n"


def _ends(reader: int) -> bool:
    """Whether nobody else holds the other end of a pipe, which we have closed."""
    readable, _, _ = select.select([reader], [], [], _WAIT_S)
    return bool(readable) and os.read(reader, 1) == b""


@contextlib.contextmanager
def _raw(engine: EngineProcess) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 << 20)
        client.connect(_path(engine))
        client.settimeout(_WAIT_S)
        yield client


_REQUEST = b'{"op":"close","seq":1,"id":"x"%s}'


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 1000,
        b"[]",
        b'{"op":"start"}',
        b'{"op":"start","seq":"1"}',
        _REQUEST[:-5],
        _REQUEST % b',"user":"\xff\xfe"',
        _REQUEST % b',"user":"\\ud800"',
        _REQUEST % (b',"options":' + b"[" * _DEEP + b"]" * _DEEP),
        _REQUEST % (b',"user":"' + b"x" * (1 << 20) + b'"'),
    ],
    ids=["zeros", "list", "no-number", "text", "half", "utf-8", "surrogate", "deep", "long"],
)
def test_nonsense_is_told_and_its_descriptors_closed(
    engine: EngineProcess, given: Options, data: bytes
) -> None:
    reader, writer = os.pipe()
    try:
        with _raw(engine) as client:
            socket.send_fds(client, [data], [writer] * 3)
            os.close(writer)
            told = json.loads(client.recv(1 << 16))
            assert told["error"]["kind"] == "invalid_argument"
            assert client.recv(1) == b""
            assert _ends(reader)
        _others_are_served(given)
    finally:
        os.close(reader)


@pytest.mark.parametrize("count", [9, 253])
def test_descriptors_that_are_too_many_are_closed(engine: EngineProcess, count: int) -> None:
    reader, writer = os.pipe()
    try:
        with _raw(engine) as client:
            socket.send_fds(client, [_REQUEST % b""], [writer] * count)
            os.close(writer)
            assert json.loads(client.recv(1 << 16))["error"]["kind"] == "invalid_argument"
            assert _ends(reader)
    finally:
        os.close(reader)


@pytest.mark.parametrize("kind", ["memfd", "connection", "listening", "engine's folder"])
def test_odd_descriptors_are_closed(engine: EngineProcess, given: Options, kind: str) -> None:
    assert run(Once(given()), "true").exit_code == 0
    before = _open(engine)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(_raw(engine))
        match kind:
            case "memfd":
                odd = os.memfd_create("odd")
            case "connection":
                odd = os.dup(client.fileno())
            case "listening":
                odd = stack.enter_context(socket.create_server(("127.0.0.1", 0))).detach()
            case _:
                odd = os.open(engine.run, os.O_PATH)
        try:
            for op in ("start", "exec", "fork", "kill", "close", "nothing"):
                message = {**start_message(given()), "op": op, "seq": 7, "id": "x"}
                socket.send_fds(client, [json.dumps(message).encode()], [odd] * 2)
                assert json.loads(client.recv(1 << 16))["seq"] == 7
        finally:
            os.close(odd)
    wait_until(lambda: _open(engine) <= before, "descriptors are left")


def test_what_a_socket_has_not_sent_is_not_waited_for(
    engine: EngineProcess, given: Options
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, _raw(engine) as client:
        slow = socket.create_connection(server.getsockname())
        with server.accept()[0]:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
            slow.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    slow.send(bytes(1 << 16))
            assert engine.process is not None
            engine.process.send_signal(signal.SIGSTOP)
            try:
                socket.send_fds(client, [_REQUEST % b""], [slow.fileno()])
                os.close(slow.detach())  # so that the engine's is the last
            finally:
                engine.process.send_signal(signal.SIGCONT)
            serving = threading.Thread(target=_others_are_served, args=(given,), daemon=True)
            serving.start()
            serving.join(_WAIT_S)
            assert not serving.is_alive(), "the engine stands still"


def test_program_with_too_many_connections_is_told(
    engine: EngineProcess, given: Options, program: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    hostile = program(
        """
held = []
while True:
    held.append(connected())
    held[-1].setblocking(False)
    time.sleep(0.001)
    try:
        said = held[-1].recv(1 << 16)
    except BlockingIOError:
        continue
    print(len(held), said.decode() or "closed", flush=True)
    held.pop()
"""
    )
    count, told = _line(hostile).split(" ", 1)
    assert "connections" in json.loads(told)["error"]["message"]
    assert 100 < int(count) < _MOST_OPEN // 2
    _others_are_served(given)
    assert _line(hostile)  # still at it
    _others_are_served(given)


_FLOODS = {
    "starts": "asked(one, {**start, 'args': ['true']}, streams)",
    "long-starts": "asked(one, {**start, 'args': ['true', 'x' * 500_000]}, streams)",
    "commands": "asked(one, {'op': 'exec', 'id': box, 'args': ['true']}, streams)",
    "kills": "asked(one, {'op': 'kill', 'id': box, 'exec': '0' * 16})",
    "nothing": "asked(one, {'op': 'x'})",
}


@pytest.mark.parametrize("kind", _FLOODS)
def test_flood_of_requests_keeps_nobody_out(
    given: Options, program: Callable[[str], "subprocess.Popen[str]"], kind: str
) -> None:
    """By a program that reads no answer, on many connections, again where it is cut off."""
    with direct(given()) as own:
        hostile = program(
            f"""
first = connected()
asked(first, start)
box = json.loads(first.recv(1 << 16))["ok"]["id"]
many = [connected() for _ in range(30)]
for turn in range(1 << 60):
    for place, one in enumerate(many):
        one.setblocking(False)
        try:
            {_FLOODS[kind]}
        except BlockingIOError:
            pass
        except OSError:
            many[place] = connected()
    if turn == 10:
        print("on", flush=True)
"""
        )
        assert _line(hostile) == "on\n"
        for _ in range(3):
            _others_are_served(given)
            assert run(own, "echo", "alive").stdout == b"alive\n"
        assert hostile.poll() is None


def test_sandboxes_that_are_too_many_harm_no_others(engine: EngineProcess, given: Options) -> None:
    with direct(given()) as own:
        with contextlib.ExitStack() as stack:

            def start_many() -> None:
                for _ in range(_MOST_OPEN):
                    stack.enter_context(direct(given()))

            with pytest.raises(ExhaustedError, match="descriptors"):
                start_many()
            before = ids(engine)
            assert len(before) > 20
            for _ in range(10):
                assert run(own, "true").exit_code == 0
                with contextlib.suppress(ExhaustedError):
                    stack.enter_context(direct(given()))
            assert before <= ids(engine)
        _others_are_served(given)


def test_sandbox_whose_program_has_handed_in_its_own_connection_ends_with_it(
    engine: EngineProcess, program: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    hostile = program(
        """
one = connected()
asked(one, {**start, "args": ["sleep", "1000"]}, [one.fileno(), writer, writer])
print(json.loads(one.recv(1 << 16))["ok"]["id"], flush=True)
time.sleep(1000)
"""
    )
    made = _line(hostile).strip()
    assert made in ids(engine)
    hostile.kill()
    wait_until(lambda: made not in ids(engine), "it goes on")


def test_many_may_wait_for_the_same_end(engine: EngineProcess, given: Options) -> None:
    with _raw(engine) as owner, _raw(engine) as other:
        owner.send(json.dumps({**start_message(given()), "seq": 1}).encode())
        made = json.loads(owner.recv(1 << 16))["ok"]["id"]
        other.send(json.dumps({"op": "close", "ids": [made] * 5000, "seq": 2}).encode())
        assert json.loads(other.recv(1 << 16)) == {"seq": 2, "ok": None}
        assert json.loads(owner.recv(1 << 16))["exit"] == made
    _others_are_served(given)


@pytest.mark.parametrize("name", ["", "..", "/", "\0", "{made}/../..", "{made}/../exec-{made}"])
def test_command_to_be_killed_is_named_by_no_path(
    engine: EngineProcess, given: Options, name: str
) -> None:
    with direct(given()) as box, direct(given()) as other:
        running = box.exec(Command(words=["sleep", "1000"]))
        assert isinstance(running, DirectHandle)
        name = name.format(made=running._key)
        message = {"op": "kill", "id": box.id, "exec": name}
        with (
            contextlib.closing(Connection(_path(engine))) as connection,
            pytest.raises(InvalidArgumentError, match="invalid exec"),
        ):
            connection.request(message)
        assert run(other, "true").exit_code == run(box, "true").exit_code == 0
        running.kill()
        running.close()


def test_who_is_not_root_cannot_connect(engine: EngineProcess) -> None:
    """Neither by the path, nor by the folder, if somebody hands it to him."""
    code = """
import os, socket, sys
for path in (sys.argv[1], f"/proc/self/fd/{sys.argv[2]}/sandboxes.sock"):
    try:
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(path)
    except OSError as error:
        print(error.errno)
"""
    folder = os.open(engine.run, os.O_PATH)
    try:
        asked = subprocess.run(
            ["/usr/bin/python3", "-c", code, _path(engine), str(folder)],
            pass_fds=[folder],
            user=_NOBODY,
            group=_NOBODY,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_WAIT_S,
        )
    finally:
        os.close(folder)
    assert asked.stdout.split() == [str(errno.EACCES)] * 2, asked
