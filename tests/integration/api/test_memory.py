"""Floods of requests pass, and the engine is as small as it was before."""

import io
import json
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess

_MIB = 1 << 20
_MOST_GROWTH = 32 * _MIB
_AT_ONCE = 24


def anonymous(engine: EngineProcess) -> int:
    """Return the bytes of memory that the engine has, beside what is of files."""
    assert engine.process is not None
    lines = Path(f"/proc/{engine.process.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))


@pytest.fixture(scope="module")
def running(engine: EngineProcess, busybox_archive: Path) -> Iterator[str]:
    engine.docker("load", "-i", str(busybox_archive))
    engine.docker("run", "-d", "--name", "running", "busybox:test", "sleep", "1000")
    yield "running"
    engine.docker("rm", "-f", "running")


def test_requests_that_are_refused_leave_nothing_in_memory(
    engine: EngineProcess, running: str
) -> None:
    environment = [f"NAME_{number}={number}" for number in range(30_000)]
    body = json.dumps({"Image": "busybox:test", "Env": environment}).encode()
    head = "POST /v1.45/containers/create?platform=no/where HTTP/1.1\r\nHost: x\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"

    def refused() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(engine.socket))
            client.sendall(head.encode() + body)
            assert client.recv(65536).startswith(b"HTTP/1.1 404 ")

    refused()
    before = anonymous(engine)
    for _ in range(60):
        refused()
    assert anonymous(engine) - before < _MOST_GROWTH


def test_large_files_in_and_out_leave_nothing_in_memory(
    engine: EngineProcess, running: str
) -> None:
    def docker(*words: str, data: bytes = b"") -> None:
        command = ["docker", *words]
        env = engine.environment()
        subprocess.run(command, input=data, env=env, check=True, stdout=subprocess.DEVNULL)

    def copied(name: str) -> None:
        for _ in range(3):
            docker("cp", "-", f"{running}:/", data=_packed(name))
            docker("cp", f"{running}:/{name}", "-")

    before = anonymous(engine)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(copied, map(str, range(_AT_ONCE))))
    assert anonymous(engine) - before < _MOST_GROWTH


def _packed(name: str) -> bytes:
    """Return an archive with a large file *name*."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        header = tarfile.TarInfo(name)
        header.size = 16 * _MIB
        archive.addfile(header, io.BytesIO(bytes(header.size)))
    return packed.getvalue()
