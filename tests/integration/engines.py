"""Real engines and images for tests, and their clean removal."""

import contextlib
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orlop.engine.images.bounds import Bounds
from orlop.layers.budget import DEFAULT
from orlop.shim.client import Client

BUSYBOX = Path("/bin/busybox")
_START_S = 120.0  # a machine may be emulated


class EngineProcess:
    """An engine of its own root and run folder; *within*: words before its command."""

    def __init__(self, folder: Path, *, within: Sequence[str] = ()) -> None:
        self._within = within
        self.root = folder / "root"
        self.run = folder / "run"
        self.home = folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.run / "orlop.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def environment(self) -> dict[str, str]:
        """Return what points clients at this engine, with a home that has no configuration."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "ORLOP_"))},
            "ORLOP_ROOT": str(self.root),
            "ORLOP_RUN": str(self.run),
            "ORLOP_CNI_CONF": str(self.run.parent / "cni"),  # not the machine's
            "DOCKER_HOST": self.url,
            "HOME": str(self.home),
        }

    def start(self) -> None:
        """Start the engine and return once its socket answers."""
        log = (self.run.parent / "engine.out").open("ab")
        with log:
            self.process = subprocess.Popen(
                [*self._within, sys.executable, "-P", "-m", "orlop.programs.engine", "--debug"],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.await_answer()

    def await_answer(self) -> None:
        """Return once the socket of the process that was started answers."""
        assert self.process is not None
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the engine did not start: {self.log()}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.socket))
            except OSError:
                return False
        return True

    def log(self) -> str:
        return (self.run.parent / "engine.out").read_text()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the engine, not its containers; return its exit status."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(30)

    def docker(
        self, *arguments: str, check: bool = True, timeout_s: float = 60, **options: object
    ) -> subprocess.CompletedProcess[str]:
        """Run the docker command against this engine."""
        done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
            ["docker", *arguments],
            env=self.environment(),
            text=True,
            capture_output=True,
            timeout=timeout_s,
            **({"stdin": subprocess.DEVNULL} | options if "input" not in options else options),
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"docker {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
                f"\n--- engine log\n{self.log()[-4000:]}"
            )
        return done

    def out(self, *arguments: str, **options: object) -> str:
        """Return what `docker …` prints, without the last newline."""
        return self.docker(*arguments, **options).stdout.strip()  # type: ignore[arg-type]

    def shim(self) -> contextlib.closing[Client]:
        """Return a connection to its shim, closed in the end."""
        return contextlib.closing(Client(str(self.run / "shim.sock")))

    def close(self) -> None:
        """Remove all containers, and end every process that this engine's run folder has."""
        with contextlib.suppress(Exception):
            ids = self.out("ps", "-aq", timeout_s=20).split()
            if ids:
                self.docker("rm", "-f", "-v", *ids, check=False, timeout_s=60)
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(Exception), self.shim() as shim:
            if "ok" in shim.call({"op": "shutdown"}, timeout_s=20):
                self._await_end()  # it takes its pools of cgroups along
        kill_all(self.run)

    def _await_end(self) -> None:
        deadline = time.monotonic() + 20
        while list(processes_of(self.run)) and time.monotonic() < deadline:
            time.sleep(0.01)


def kill_all(run: Path) -> None:
    """Kill the processes that have the folder *run*, and remove the cgroup of its workers."""
    while pids := list(processes_of(run)):  # again, as a shim replaces its pump
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    Bounds(run, DEFAULT).remove()


def processes_of(run: Path) -> Iterator[int]:
    """Find the processes that were started with the folder *run* as an argument."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if os.fsencode(run) in words:
                    yield int(entry.name)


def busybox_layer() -> bytes:
    """Return a layer with a static busybox, links for its applets, and the folders of a root."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        tar.addfile(
            _file("etc/passwd", 0o644, b := b"root:x:0:0:root:/root:/bin/sh\n"), io.BytesIO(b)
        )
        tar.addfile(_file("etc/group", 0o644, b := b"root:x:0:\n"), io.BytesIO(b))
        program = BUSYBOX.read_bytes()
        tar.addfile(_file("bin/busybox", 0o755, program), io.BytesIO(program))
        for applet in _applets():
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return data.getvalue()


def _applets() -> list[str]:
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split() if name != "busybox"]


def _file(name: str, mode: int, content: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, len(content)
    return info


def docker_archive(path: Path, *, tags: list[str], config: Mapping[str, object]) -> Path:
    """Write a one-layer image as `docker save` would; *config* is its Config."""
    layer = busybox_layer()
    image = json.dumps(
        {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "created": "2025-01-02T03:04:05Z",
            "config": config,
            "rootfs": {
                "type": "layers",
                "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()],
            },
            "history": [{"created": "2025-01-02T03:04:05Z", "created_by": "busybox"}],
        }
    ).encode()
    name = hashlib.sha256(image).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": tags, "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for member, content in (
            (f"{name}.json", image),
            ("layer.tar", layer),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            tar.addfile(_file(member, 0o644, content), io.BytesIO(content))
    return path
