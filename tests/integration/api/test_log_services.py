"""Containers whose output goes to syslog, journald or fluentd."""

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.integration.engines import EngineProcess
from tests.journal import fields

SPOKEN = ("sh", "-c", "echo to out; echo to errors >&2")
PATIENCE_S = 30.0
SYSTEMD = Path("/run/systemd")


@pytest.fixture
def syslog() -> Iterator[tuple[socket.socket, str]]:
    """A listener on UDP, and its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE_S)
        yield sock, f"udp://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def forward() -> Iterator[tuple[socket.socket, str]]:
    """A listener for fluentd's protocol, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        yield server, f"127.0.0.1:{server.getsockname()[1]}"


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def events(connection: socket.socket) -> Iterator[list[Any]]:
    connection.settimeout(PATIENCE_S)
    data = b""
    while block := connection.recv(1 << 16):
        data += block
        with contextlib.suppress(msgspec.DecodeError):
            while data:
                yield msgspec.msgpack.decode(data)
                data = b""


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def deliverers(engine: EngineProcess) -> list[int]:
    """Return the processes that deliver logs for this engine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if (entry / "comm").read_text() == "orlop-log\n" and os.fsencode(
                    engine.run
                ) in words:
                    found.append(int(entry.name))
    return found


def test_syslog_listener_gets_what_a_container_writes(
    engine: EngineProcess, image: str, name: str, syslog: tuple[socket.socket, str]
) -> None:
    sock, address = syslog
    engine.docker(
        *("run", "--name", name, "--log-driver", "syslog", "--log-opt", "tag={{.Name}}"),
        *("--log-opt", f"syslog-address={address}", image, *SPOKEN),
    )
    lines = sorted(sock.recv(1 << 16).decode() for _ in range(2))
    assert re.fullmatch(rf"<27>.* {name}\[\d+\]: to errors\n", lines[0])
    assert re.fullmatch(rf"<30>.* {name}\[\d+\]: to out\n", lines[1])
    eventually(lambda: not deliverers(engine))


def test_logs_of_a_service_are_read_from_a_copy(
    engine: EngineProcess, image: str, name: str, syslog: tuple[socket.socket, str]
) -> None:
    _, address = syslog
    engine.docker(
        *("run", "--name", name, "--log-driver", "syslog"),
        *("--log-opt", f"syslog-address={address}", image, *SPOKEN),
    )
    shown = engine.docker("logs", name)
    assert (shown.stdout, shown.stderr) == ("to out\n", "to errors\n")
    assert engine.out("inspect", "-f", "{{.LogPath}}", name) == ""


def test_copy_can_be_disabled_and_then_logs_says_so(
    engine: EngineProcess, image: str, name: str, syslog: tuple[socket.socket, str]
) -> None:
    sock, address = syslog
    engine.docker(
        *("run", "--name", name, "--log-driver", "syslog", "--log-opt", "cache-disabled=true"),
        *("--log-opt", f"syslog-address={address}", image, *SPOKEN),
    )
    assert len([sock.recv(1 << 16) for _ in range(2)]) == 2
    shown = engine.docker("logs", name, check=False)
    assert "configured logging driver does not support reading" in shown.stderr
    container_id = engine.out("inspect", "-f", "{{.Id}}", name)
    names = os.listdir(engine.root / "containers" / container_id)
    assert not [file for file in names if "log" in file or "cached" in file]


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("syslog", ["syslog-address=tcp://127.0.0.1:{port}"]),
        ("syslog", ["syslog-address=unixgram:///nowhere/log"]),
        ("fluentd", ["fluentd-address=127.0.0.1:{port}"]),
        ("fluentd", ["fluentd-address=unix:///nowhere/log"]),
        ("syslog", ["syslog-address=tcp://127.0.0.1:{port}", "mode=non-blocking"]),
    ],
)
def test_start_is_refused_where_the_service_does_not_answer(
    engine: EngineProcess, image: str, name: str, driver: str, options: list[str]
) -> None:
    port = closed_port()
    words = [w for option in options for w in ("--log-opt", option.format(port=port))]
    run = engine.docker(
        *("run", "-d", "--name", name, "--log-driver", driver, *words, image, *SPOKEN), check=False
    )
    assert f"failed to initialize logging driver: {driver} does not answer" in run.stderr
    state = engine.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)
    assert state == "created 128"
    assert not deliverers(engine)


def test_fluentd_gets_records_with_the_labels_and_variables_named(
    engine: EngineProcess, image: str, name: str, forward: tuple[socket.socket, str]
) -> None:
    server, address = forward
    engine.docker(
        *("run", "-d", "--name", name, "--log-driver", "fluentd", "--label", "team=red"),
        *("--log-opt", f"fluentd-address={address}", "--log-opt", "labels=team"),
        *("-e", "MODE=fast", "--log-opt", "env=MODE", "--log-opt", "tag=app.{{.Name}}"),
        *(image, "sh", "-c", "echo one; sleep 1000"),
    )
    server.accept()[0].close()  # at the start the engine only looked
    connection, _ = server.accept()
    with connection:
        tag, _, record, _ = next(events(connection))
    assert tag == f"app.{name}"
    full = engine.out("inspect", "-f", "{{.Id}}", name)
    assert record == {
        "container_id": full,
        "container_name": f"/{name}",
        "source": "stdout",
        "log": "one",
        "team": "red",
        "MODE": "fast",
    }


def test_fluentd_that_comes_later_gets_what_was_written_before(
    engine: EngineProcess, image: str, name: str
) -> None:
    port = closed_port()
    engine.docker(
        *("run", "-d", "--name", name, "--log-driver", "fluentd"),
        *("--log-opt", "fluentd-async=true", "--log-opt", "fluentd-retry-wait=100ms"),
        *("--log-opt", f"fluentd-address=127.0.0.1:{port}"),
        *(image, "sh", "-c", "echo one; sleep 1000"),
    )
    eventually(lambda: engine.out("logs", name) == "one")
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(PATIENCE_S)
        connection, _ = server.accept()
        with connection:
            assert next(events(connection))[2]["log"] == "one"


@pytest.mark.parametrize("options", [["fluentd-async=true"], ["mode=non-blocking"]])
def test_container_does_not_wait_for_a_service_that_takes_nothing_where_it_need_not(
    engine: EngineProcess,
    image: str,
    name: str,
    forward: tuple[socket.socket, str],
    options: list[str],
) -> None:
    _, address = forward  # which nobody reads from
    words = [word for option in options for word in ("--log-opt", option)]
    engine.docker(
        *("run", "--name", name, "--log-driver", "fluentd", *words),
        *("--log-opt", f"fluentd-address={address}", "--log-opt", "cache-disabled=true"),
        *(image, "sh", "-c", "yes 0123456789 | head -c 20000000"),
    )
    assert engine.out("inspect", "-f", "{{.State.ExitCode}}", name) == "0"


def test_container_waits_for_a_service_that_takes_nothing(
    engine: EngineProcess, image: str, name: str, forward: tuple[socket.socket, str]
) -> None:
    server, address = forward
    engine.docker(
        *("run", "-d", "--name", name, "--log-driver", "fluentd"),
        *("--log-opt", f"fluentd-address={address}", "--log-opt", "cache-disabled=true"),
        *(image, "sh", "-c", "yes 0123456789 | head -c 4000000"),
    )
    server.accept()[0].close()
    connection, _ = server.accept()
    with connection:
        time.sleep(1)
        assert engine.out("inspect", "-f", "{{.State.Status}}", name) == "running"
        connection.settimeout(PATIENCE_S)
        while connection.recv(1 << 20):
            pass  # until the deliverer ends, as the container has
    eventually(lambda: engine.out("inspect", "-f", "{{.State.Status}}", name) == "exited")


def test_process_that_delivers_is_replaced_when_it_is_killed(
    engine: EngineProcess, image: str, name: str, syslog: tuple[socket.socket, str]
) -> None:
    sock, address = syslog
    engine.docker(
        *("run", "-d", "-i", "--name", name, "--log-driver", "syslog"),
        *("--log-opt", f"syslog-address={address}"),
        *(image, "sh", "-c", "echo one; read; echo two"),
    )
    assert sock.recv(1 << 16).endswith(b": one\n")
    eventually(lambda: len(deliverers(engine)) == 1)  # those of other tests have ended
    (pid,) = deliverers(engine)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: deliverers(engine) not in ([pid], []))
    engine.docker("attach", name, input="\n")
    assert sock.recv(1 << 16).endswith(b": two\n")


def test_output_is_delivered_while_the_engine_is_away(
    engine: EngineProcess, image: str, name: str, syslog: tuple[socket.socket, str]
) -> None:
    sock, address = syslog
    engine.docker(
        *("run", "-d", "--name", name, "--log-driver", "syslog"),
        *("--log-opt", f"syslog-address={address}"),
        *(image, "sh", "-c", "while sleep 0.1; do echo tick; done"),
    )
    sock.recv(1 << 16)
    engine.stop(signal.SIGKILL)
    try:
        for _ in range(20):
            assert sock.recv(1 << 16).endswith(b": tick\n")
    finally:
        engine.start()


@contextlib.contextmanager
def existing(folder: Path) -> Iterator[None]:
    """Make *folder* for a while where the host has none."""
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if made:
            folder.rmdir()


def test_journald_gets_entries_with_its_fields(
    tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    (folder / "journal").mkdir()
    script = f'mount --bind {folder} {SYSTEMD} && exec "$@"'
    within = ("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh")
    engine = EngineProcess(tmp_path_factory.mktemp("engine"), within=within)
    with (
        existing(SYSTEMD),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        contextlib.closing(engine),
    ):
        sock.bind(str(folder / "journal/socket"))
        sock.settimeout(PATIENCE_S)
        engine.start()
        engine.docker("load", "-i", str(busybox_archive))
        engine.docker(
            *("run", "--name", "journal", "--log-driver", "journald", "--label", "com.team=red"),
            *("--log-opt", "labels=com.team", "busybox:test", *SPOKEN),
        )
        found = {entry["MESSAGE"]: entry for entry in (fields(sock.recv(1 << 16)) for _ in "12")}
        assert found[b"to out"]["PRIORITY"] == b"6"
        assert found[b"to errors"]["PRIORITY"] == b"3"
        assert found[b"to out"]["CONTAINER_NAME"] == b"journal"
        assert found[b"to out"]["COM_TEAM"] == b"red"
        assert engine.out("logs", "journal") == "to out"
