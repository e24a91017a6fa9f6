"""The engines that are compared: each started in folders of its own, and ended with them.

State is on disk; what is /run elsewhere is in memory, as it is on machines that people use.

An engine is a row: how it is started, and the command lines of the verbs that
are timed. Peers that are not installed are left out, and the report says so.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

BIN = Path(sys.executable).parent
MEMORY = "/dev/shm"  # a tmpfs everywhere


class Engine(NamedTuple):
    """Command lines; IMAGE and NAME stand for an image reference and a container's name."""

    name: str
    env: dict[str, str]
    run: Sequence[str]
    start: Sequence[str]
    execute: Sequence[str]
    remove: Sequence[str]
    pull: Sequence[str]
    delete: Sequence[str]
    version: Sequence[str]

    def command(self, verb: Sequence[str], image: str, name: str = "bench") -> list[str]:
        words = {"IMAGE": image, "NAME": name}
        return [words.get(word, word) for word in verb]

    def call(self, verb: Sequence[str], image: str, name: str = "bench") -> None:
        """Run a verb and wait for its end; CalledProcessError with its words when it fails."""
        subprocess.run(
            self.command(verb, image, name),
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )


def _docker_like(name: str, program: str, env: dict[str, str], *more: str) -> Engine:
    front = [program, *more]
    return Engine(
        name=name,
        env=env,
        run=[*front, "run", "--rm", "--network", "none", "IMAGE", "true"],
        start=[*front, "run", "-d", "--network", "none", "--name", "NAME", "IMAGE", "sleep", "600"],
        execute=[*front, "exec", "NAME", "true"],
        remove=[*front, "rm", "-f", "NAME"],
        pull=[*front, "pull", "-q", "IMAGE"],
        delete=[*front, "rmi", "-f", "IMAGE"],
        version=[*front, "version"],
    )


@contextmanager
def _daemon(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def orlop(folder: Path, run: Path, *, programs: Path = BIN) -> Iterator[Engine]:
    env = {"ORLOP_ROOT": str(folder / "root"), "ORLOP_RUN": str(run)}
    program = str(programs / "orlop")
    try:
        yield _docker_like("orlop", program, env)
    finally:
        subprocess.run(
            [program, "engine", "--stop"],
            env={**os.environ, **env},
            capture_output=True,
            check=False,
        )


@contextmanager
def docker(folder: Path, run: Path) -> Iterator[Engine]:
    socket = f"unix://{run}/docker.sock"
    places = ["--data-root", f"{folder}/root", "--exec-root", f"{run}/run"]
    network = ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
    identity = ["--pidfile", f"{run}/pid", "-H", socket]
    with _daemon(["dockerd", *places, *network, *identity], folder):
        yield _docker_like("docker", "docker", {"DOCKER_HOST": socket})


@contextmanager
def podman(folder: Path, run: Path) -> Iterator[Engine]:
    places = ["--root", f"{folder}/root", "--runroot", f"{run}/run"]
    how = ["--cgroup-manager", "cgroupfs", "--runtime", "runc"]  # crun refuses cgroup v1 hybrid
    engine = _docker_like("podman", "podman", {}, *places, *how)
    plain = [*engine.pull[:-1], "--tls-verify=false", "IMAGE"]
    yield engine._replace(pull=plain)


@contextmanager
def containerd(folder: Path, run: Path) -> Iterator[Engine]:
    address = f"{run}/containerd.sock"
    config = folder / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{run}/run"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{address}"\n'
    )
    front = ["ctr", "-a", address]
    with _daemon(["containerd", "--config", str(config)], folder):
        yield Engine(
            name="ctr",
            env={},
            run=[*front, "run", "--rm", "IMAGE", "NAME", "true"],
            start=[*front, "run", "-d", "IMAGE", "NAME", "sleep", "600"],
            execute=[*front, "task", "exec", "--exec-id", "e", "NAME", "true"],
            remove=[
                "sh",
                "-c",
                f"{' '.join(front)} task rm -f $0; {' '.join(front)} c rm $0",
                "NAME",
            ],
            pull=[*front, "image", "pull", "--plain-http", "IMAGE"],
            delete=[*front, "image", "rm", "--sync", "IMAGE"],
            version=[*front, "version"],
        )


ENGINES = {"orlop": orlop, "docker": docker, "podman": podman, "ctr": containerd}
PROGRAMS = {"docker": "dockerd", "podman": "podman", "ctr": "containerd"}


def installed() -> list[str]:
    """Names of the engines that this machine can run, Orlop first."""
    return [name for name in ENGINES if shutil.which(PROGRAMS.get(name, "sh"))]


@contextmanager
def running(names: Sequence[str], folder: Path) -> Iterator[list[Engine]]:
    """Start the engines called *names*; yield them once each answers."""
    with ExitStack() as stack:
        engines = []
        for name in names:
            own = folder / name
            own.mkdir()
            run = stack.enter_context(tempfile.TemporaryDirectory(prefix="orlop-", dir=MEMORY))
            engines.append(stack.enter_context(ENGINES[name](own, Path(run))))
        for engine in engines:
            _wait(engine)
        yield engines


def _wait(engine: Engine, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return engine.call(engine.version, "")
        except subprocess.CalledProcessError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{engine.name} does not answer: {error.stderr!r}") from error
            time.sleep(0.2)
