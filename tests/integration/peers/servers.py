"""Debian's engines with folders of their own, set to run containers with runc or with Orlop."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from orlop.runtime.cgroups.layout import detect
from tests.integration.oci_runtime.faulty import write_faulty

RUNC = Path("/usr/sbin/runc")
ORLOP = Path(sys.executable).with_name("orlop-runtime")
RUNTIMES = {"runc": RUNC, "orlop": ORLOP}
IMAGE = "busybox:test"
USER = 65534  # nobody, who has a name
REMAPPED = "daemon"  # a user, and a group
FIRST_ID = 300_000
_shim_sockets = Path("/run/containerd/s")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Peer:
    """An engine's command line: what comes before every subcommand, and its environment."""

    front: Sequence[str]
    variables: Mapping[str, str]
    folder: Path

    def environment(self) -> dict[str, str]:
        return dict(self.variables)

    def __call__(self, *words: str, stdin: str | None = None, timeout_s: float = 60) -> Done:
        """Run a subcommand. Its output is a file, as what it starts may live on."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                [*self.front, *words],
                env=self.variables,
                cwd=self.folder,
                text=True,
                stdout=out,
                stderr=err,
                timeout=timeout_s,
                **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
            )
            out.seek(0)
            err.seek(0)
            return Done(done.returncode, out.read(), err.read())

    def said(self, *words: str, stdin: str | None = None) -> str:
        """Run a subcommand that must succeed, and return what it prints."""
        done = self(*words, stdin=stdin)
        assert done.status == 0, f"{' '.join(words)}: {done}"
        return done.out.strip()


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A folder of a short name; processes, mounts and cgroups that bear it must be gone in the end.

    What is left is removed, and then told: one test's remains are not to fail the next.
    """
    folder = Path(tempfile.mkdtemp(prefix="p-", dir="/tmp"))
    folder.chmod(0o711)  # root in a user namespace is nobody to the host
    sockets = set(_sockets())
    try:
        yield folder
    finally:
        deadline = time.monotonic() + 10  # containerd's shims clean up behind the engine's back
        while (left := _left(folder, sockets)) and time.monotonic() < deadline:
            time.sleep(0.1)
        _remove(folder)
        for path in set(_sockets()) - sockets:
            path.unlink()
    assert not left, left


def _left(folder: Path, sockets: Set[Path]) -> list[str]:
    left = [*_processes(folder), *_mounts(folder), *_cgroups(folder)]
    return left + sorted(str(path) for path in set(_sockets()) - sockets)


def _sockets() -> Iterator[Path]:
    return _shim_sockets.glob("*")


def _processes(folder: Path) -> list[str]:
    """Processes whose arguments name *folder*, or whose cgroup does."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                if f"{folder}" in words or folder.name in (entry / "cgroup").read_text():
                    found.append(f"{entry.name} {words}")
    return found


def _mounts(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(f"{folder}/")]


def _cgroups(folder: Path) -> list[str]:
    """Cgroups below the one that the engine was given, which is named as *folder* is."""
    roots = [Path(hierarchy.mountpoint, folder.name) for hierarchy in detect().hierarchies]
    return [str(path) for root in roots for path in root.glob("*/")]


def _remove(folder: Path) -> None:
    for line in _processes(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line.split()[0]), signal.SIGKILL)
    for mountpoint in reversed(_mounts(folder)):
        subprocess.run(["umount", "--lazy", mountpoint], check=False)
    for hierarchy in detect().hierarchies:
        for path, _, _ in os.walk(Path(hierarchy.mountpoint, folder.name), topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def dockerd(folder: Path, *, remapped: bool = False) -> Iterator[Peer]:
    """Docker's engine, with containerd of its own, and `orlop` beside `runc` as runtimes.

    A third, `faulty`, is Orlop with a defect. Where ids are *remapped*, every container is
    in a user namespace, of ids from FIRST_ID on.
    """
    (folder / "daemon.json").write_text(json.dumps({"experimental": True}))
    host = f"unix://{folder}/d.sock"
    peer = Peer(["docker"], {**_environment(folder), "DOCKER_HOST": host}, folder)
    words = ["dockerd", "--host", host, "--config-file", f"{folder}/daemon.json"]
    words += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    words += ["--pidfile", f"{folder}/pid", "--storage-driver", "vfs"]
    words += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
    words += ["--cgroup-parent", f"/{folder.name}", "--add-runtime", f"orlop={ORLOP}"]
    words += ["--add-runtime", f"faulty={write_faulty(folder / 'faulty')}"]
    if remapped:
        words = [*_with_ranges(folder), *words, f"--userns-remap={REMAPPED}"]
    with _server(words, folder, peer, probe=["version"]):
        try:
            yield peer
        finally:
            if ids := peer("ps", "--all", "--quiet").out.split():
                peer("rm", "--force", "--volumes", *ids)
    # The engine leaves its own, as a container on the host's network has it.
    subprocess.run(["umount", f"{folder}/exec/netns/default"], capture_output=True, check=False)


def _with_ranges(folder: Path) -> list[str]:
    """Return what gives REMAPPED a range of ids, for the server that follows alone."""
    (folder / "ranges").write_text(f"{REMAPPED}:{FIRST_ID}:65536\n")
    mounts = [f"mount --bind {folder}/ranges /etc/{name}" for name in ("subuid", "subgid")]
    script = " && ".join((*mounts, 'exec "$@"'))
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


@contextlib.contextmanager
def containerd(folder: Path) -> Iterator[Peer]:
    """containerd alone, spoken to by ctr: which runtime runs a container, each `run` says."""
    config = folder / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/run"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
        f'[grpc]\naddress = "{folder}/c.sock"\n[ttrpc]\naddress = "{folder}/t.sock"\n'
    )
    peer = Peer(["ctr", "--address", f"{folder}/c.sock"], _environment(folder), folder)
    words = ["containerd", "--config", str(config)]
    with _server(words, folder, peer, probe=["version"]):
        try:
            yield peer
        finally:
            for name in peer("container", "list", "--quiet").out.split():
                peer("task", "delete", "--force", name)
                peer("container", "delete", name)


@contextlib.contextmanager
def podman(folder: Path) -> Iterator[Peer]:
    """podman with storage and state of its own; a test puts `--runtime` before the subcommand."""
    front = ["podman", "--root", f"{folder}/data", "--runroot", f"{folder}/run"]
    front += ["--tmpdir", f"{folder}/state", "--storage-driver", "vfs"]
    front += ["--cgroup-manager", "cgroupfs", "--events-backend", "none"]
    quiet = {"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    peer = Peer(front, _environment(folder) | quiet, folder)
    try:
        yield peer
    finally:
        peer("pod", "rm", "--all", "--force", "--time", "0")
        peer("rm", "--all", "--force", "--time", "0")
        _remove_cgroups_of_pods(folder)


@contextlib.contextmanager
def rootless_podman(folder: Path) -> Iterator[Peer]:
    """podman of an ordinary user's; one without ranges of ids, who has himself as root inside."""
    front = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    front += ["podman", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run/store"\ngraphroot = "{folder}/data"\n'
        '[storage.options.vfs]\nignore_chown_errors = "true"\n'
    )
    (folder / "run").mkdir()
    subprocess.run(["chown", "-R", f"{USER}:{USER}", folder], check=True)
    own = {
        "XDG_RUNTIME_DIR": f"{folder}/run",
        "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
        "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        "USER": "nobody",
    }
    peer = Peer(front, _environment(folder) | own, folder)
    try:
        yield peer
    finally:
        peer("rm", "--all", "--force", "--time", "0")
        pause = folder / "run" / "libpod" / "tmp" / "pause.pid"
        if pause.exists():  # what keeps the user's namespaces
            os.kill(int(pause.read_text()), signal.SIGKILL)


def _remove_cgroups_of_pods(folder: Path) -> None:
    """Remove what podman makes itself, and leaves, beside the cgroups of its containers."""
    for hierarchy in detect().hierarchies:
        root = Path(hierarchy.mountpoint, folder.name)
        for path in (*root.glob("conmon"), *root.glob("[0-9a-f]" * 64), root):
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def _server(
    words: Sequence[str], folder: Path, peer: Peer, *, probe: Sequence[str]
) -> Iterator[None]:
    """Run an engine; begin once it answers *probe*, and end it by its pid."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, env=peer.variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 30
        while peer(*probe).status != 0:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _environment(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "CONTAINERD_"))}
    return {**kept, "HOME": str(folder), "TMPDIR": str(folder)}


_numbers = itertools.count()


def fresh_name() -> str:
    """Return a container name that no test has used."""
    return f"c{next(_numbers)}"
