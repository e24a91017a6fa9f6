"""Two engines for the command line: Orlop's own, and Docker's, which shows that it is Docker's API
that we speak. What passes with one and not with the other tells whose fault it is.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.engines import EngineProcess

IMAGE = "busybox:test"


class CommandLine:
    """`orlop`, pointed at one engine."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "ORLOP_"))},
            **environment,
        }
        self.words = [sys.executable, "-P", "-m", "orlop"]

    def run(
        self, *words: str, stdin: bytes = b"", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one command line to its end."""
        return subprocess.run(
            [*self.words, *words],
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    def out(self, *words: str, stdin: bytes = b"") -> str:
        """Return the output of a command that must succeed, without its last line break."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.decode().rstrip("\n")

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start one command line."""
        return subprocess.Popen(
            [*self.words, *words],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def containers(self) -> list[str]:
        """Return the ids of all containers."""
        return self.out("ps", "-aq", "--no-trunc").split()


#: Runs a command where /sys is about the network namespace that the tests are in.
_IN_THIS_NETWORK = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    """mount --rbind /sys/fs/cgroup /mnt && mount -t sysfs sysfs /sys &&
    mount --rbind /mnt /sys/fs/cgroup && umount -l /mnt && exec "$@" """,
    "sh",
)


@contextlib.contextmanager
def _dockerd(folder: Path) -> Iterator[str]:
    """Run Docker's engine with folders of its own; yields its address."""
    socket = folder / "docker.sock"
    words = [*_IN_THIS_NETWORK, "dockerd", "-H", f"unix://{socket}"]
    words += ["--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")]
    words += ["--pidfile", str(folder / "pid"), "--config-file", str(folder / "none.json")]
    (folder / "none.json").write_text(json.dumps({}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        probe = ["docker", "-H", f"unix://{socket}", "version"]
        while subprocess.run(probe, capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((folder / "log").read_text()[-2000:])
            time.sleep(0.1)
        yield f"unix://{socket}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="package", params=["orlop", "docker"])
def cli(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    busybox_archive: Path,
) -> Iterator[CommandLine]:
    """The command line with an engine that has the image busybox:test."""
    folder = tmp_path_factory.mktemp("c")
    with contextlib.ExitStack() as stack:
        if request.param == "docker":
            if shutil.which("dockerd") is None:
                pytest.skip("dockerd is not installed")
            address = stack.enter_context(_dockerd(folder))
            made = CommandLine({"ORLOP_HOST": address, "HOME": str(folder)})
        else:
            engine = EngineProcess(folder)
            stack.callback(engine.close)
            engine.start()
            made = CommandLine(engine.environment())
        made.out("load", "-i", str(busybox_archive))
        yield made
        if ids := made.containers():
            made.run("rm", "-f", "-v", *ids)


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove what a test has made, even if it failed."""
    yield
    if "cli" in request.fixturenames:
        command_line = request.getfixturevalue("cli")
        if ids := command_line.containers():
            command_line.run("rm", "-f", "-v", *ids)
        command_line.run("network", "prune", "-f")
