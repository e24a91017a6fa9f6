"""The engine's process: starting, stopping, and who may be there with it."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine that the test starts itself."""
    process = EngineProcess(tmp_path)
    yield process
    process.close()


def request(path: Path, target: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


def run_engine(fresh: EngineProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "orlop.programs.engine", *arguments],
        env=fresh.environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_socket_and_folders_are_closed_to_strangers(fresh: EngineProcess) -> None:
    fresh.start()
    assert stat.S_IMODE(fresh.socket.stat().st_mode) == 0o660
    assert stat.S_IMODE(fresh.run.stat().st_mode) == 0o700
    assert stat.S_IMODE(fresh.root.stat().st_mode) == 0o700


def test_sigterm_ends_the_engine_and_takes_its_socket_away(fresh: EngineProcess) -> None:
    fresh.start()
    assert fresh.stop() == 0
    assert not fresh.socket.exists()
    assert "Traceback" not in fresh.log()


def test_second_engine_of_a_run_folder_is_refused_in_a_sentence(fresh: EngineProcess) -> None:
    fresh.start()
    done = run_engine(fresh)
    assert done.returncode == 1
    assert fresh.process is not None
    assert f"another engine runs on {fresh.run} (pid {fresh.process.pid})" in done.stderr


def test_second_engine_of_a_root_is_refused_in_a_sentence(
    fresh: EngineProcess, tmp_path: Path
) -> None:
    fresh.start()
    done = run_engine(fresh, "--run", str(tmp_path / "other"))
    assert done.returncode == 1
    assert fresh.process is not None
    assert f"another engine runs on {fresh.root} (pid {fresh.process.pid})" in done.stderr
    assert "--root" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert request(fresh.socket, "/_ping").endswith(b"OK")


def test_engine_can_be_killed_and_started_again(fresh: EngineProcess) -> None:
    fresh.start()
    fresh.stop(signal.SIGKILL)
    fresh.start()
    assert request(fresh.socket, "/_ping").endswith(b"OK")


def test_two_engines_with_folders_of_their_own_run_side_by_side(tmp_path: Path) -> None:
    engines = [EngineProcess(tmp_path / name) for name in ("a", "b")]
    try:
        for engine in engines:
            engine.start()
        engines[0].docker("volume", "create", "only-in-a")
        assert engines[0].out("volume", "ls", "-q") == "only-in-a"
        assert engines[1].out("volume", "ls", "-q") == ""
    finally:
        for engine in engines:
            engine.close()


def test_service_manager_passes_the_socket_and_is_told(fresh: EngineProcess) -> None:
    fresh.run.mkdir(mode=0o700)
    path = fresh.run.parent / "passed.sock"
    manager_path = fresh.run.parent / "notify.sock"
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        listener.bind(str(path))
        listener.listen()
        manager.bind(str(manager_path))
        manager.settimeout(20)
        # LISTEN_PID must be the pid that execs, so a shell sets it.
        script = 'exec 3<&"$0"; LISTEN_PID=$$ exec "$@"'
        program = [sys.executable, "-P", "-m", "orlop.programs.engine"]
        fresh.process = subprocess.Popen(
            ["bash", "-c", script, str(listener.fileno()), *program],
            env=fresh.environment() | {"LISTEN_FDS": "1", "NOTIFY_SOCKET": str(manager_path)},
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
        )
        assert manager.recv(100) == b"READY=1"
        assert request(path, "/_ping").endswith(b"OK")
        assert not fresh.socket.exists()
        assert fresh.stop() == 0
        assert path.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--snapshotter", "wishful"], "wishful"),
        (["--root", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_bad_settings_are_refused_without_a_traceback(
    fresh: EngineProcess, arguments: list[str], words: str
) -> None:
    done = run_engine(fresh, *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not fresh.socket.exists()


def test_log_that_the_engine_was_started_on_is_its_own(fresh: EngineProcess) -> None:
    fresh.run.mkdir(mode=0o700)
    log = fresh.run / "engine.log"
    with log.open("ab") as out:
        fresh.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "orlop.programs.engine"],
            env=fresh.environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    while "engine ready" not in log.read_text():
        assert fresh.process.poll() is None, log.read_text()
    fresh.stop()
    assert "engine stopped" in log.read_text()


def test_broken_json_is_refused_and_the_connection_lives_on(fresh: EngineProcess) -> None:
    fresh.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(fresh.socket))
        for body in (b"{", b"[]", b'{"Image":5}', b'{"HostConfig":{"Binds":["x:y"]}}'):
            head = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
            head += b"Content-Type: application/json\r\n\r\n"
            client.sendall(head % len(body) + body)
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 400 "), answer
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["message"]


def test_idle_engine_holds_few_descriptors(fresh: EngineProcess) -> None:
    fresh.start()
    assert fresh.process is not None
    folder = f"/proc/{fresh.process.pid}/fd"
    fresh.docker("volume", "ls")
    before = len(os.listdir(folder))
    for _ in range(20):
        fresh.docker("ps")
    assert len(os.listdir(folder)) <= before + 1


def test_network_is_set_up_while_1100_connections_are_idle(
    fresh: EngineProcess, busybox_archive: Path
) -> None:
    fresh.start()
    fresh.docker("load", "-i", str(busybox_archive))
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(fresh.socket))
        said = fresh.out("run", "--rm", "-p", "127.0.0.1::80", "busybox:test", "echo", "here")
    assert said == "here"


def test_program_with_idle_connections_leaves_descriptors_to_others(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path, within=["prlimit", "--nofile=512:512"])
    with contextlib.ExitStack() as stack:
        stack.callback(engine.close)
        engine.start()
        for _ in range(600):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(engine.socket))
        assert engine.out("volume", "create", "made-meanwhile") == "made-meanwhile"


def test_registry_that_hangs_holds_up_nobody(fresh: EngineProcess) -> None:
    fresh.start()
    with socket.create_server(("127.0.0.1", 0)) as registry, contextlib.ExitStack() as stack:
        address = f"127.0.0.1:{registry.getsockname()[1]}"
        pulls = [
            subprocess.Popen(
                ["docker", "pull", f"{address}/hanging/image:v{number}"],
                env=fresh.environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number in range(12)
        ]
        for _ in pulls:  # each has reached the registry, which says nothing
            stack.enter_context(registry.accept()[0])
        fresh.docker("volume", "create", "made-meanwhile")
        for pull in pulls:
            pull.kill()
            pull.wait()
        assert fresh.out("volume", "ls", "-q") == "made-meanwhile"
        assert fresh.stop() == 0
    assert "Traceback" not in fresh.log()
    fresh.start()
    assert fresh.out("volume", "ls", "-q") == "made-meanwhile"


def test_streams_do_not_hold_up_the_end_of_the_engine(fresh: EngineProcess) -> None:
    fresh.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(fresh.socket))
        client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        assert fresh.stop() == 0
    assert "work under way" not in fresh.log()


def test_stop_ends_the_engine_and_the_shim_when_nothing_runs(fresh: EngineProcess) -> None:
    fresh.start()
    done = run_engine(fresh, "--stop")
    assert (done.returncode, done.stdout) == (0, "the engine has ended\n"), done.stderr
    assert fresh.process is not None
    assert fresh.process.wait(10) == 0
    assert run_engine(fresh, "--stop").stdout == "no engine runs\n"


def test_stop_leaves_containers_running(fresh: EngineProcess) -> None:
    fresh.start()
    name = fresh.out("run", "-d", "--network", "none", "host", "sleep", "300")
    assert "containers run on" in run_engine(fresh, "--stop").stdout
    assert fresh.process is not None
    fresh.process.wait(10)
    fresh.start()
    assert fresh.out("inspect", "-f", "{{.State.Status}}", name) == "running"
