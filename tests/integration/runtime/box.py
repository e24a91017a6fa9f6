"""Containers for tests: a busybox root, run for real, with everything taken away afterwards."""

import contextlib
import copy
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from orlop.kernel.process import pidfd_send_signal, wait_exit
from orlop.model.mount import Mount
from orlop.model.oci import Config
from orlop.runtime.ahead import Ahead
from orlop.runtime.bundle import Bundle, Gate, Manner, Starting, Stdio, Target
from orlop.runtime.execute import execute
from orlop.runtime.start import start, wait_ready

CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_SETUID",
    "CAP_SETGID",
]
NOSUID = ["nosuid", "noexec", "nodev"]
MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": NOSUID},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*NOSUID, "ro"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": NOSUID},
    {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": [*NOSUID, "mode=1777", "size=65536k"],
    },
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
]


class Result(NamedTuple):
    status: int
    output: str


class Box:
    """A root of busybox's, a configuration to change, and the containers made of them."""

    def __init__(self, folder: Path) -> None:
        self.id = f"orlop-test-{uuid.uuid4().hex[:12]}"
        self.folder = folder
        self.lower = folder / "lower"
        self.upper = folder / "upper"
        for name in ("bin", "etc", "tmp"):
            (self.lower / name).mkdir(parents=True)
        self.upper.mkdir()
        (folder / "work").mkdir()
        shutil.copy("/bin/busybox", self.lower / "bin/busybox")
        subprocess.run([self.lower / "bin/busybox", "--install", self.lower / "bin"], check=True)
        (self.lower / "etc/passwd").write_text(
            "root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/home/a:/bin/sh\n"
        )
        (self.lower / "etc/group").write_text("root:x:0:\nstaff:x:50:bob,alice\naudio:x:29:\n")
        self.config = config()
        self.manner = Manner()
        self.ahead: Ahead | None = None
        self.running: list[Starting] = []
        self.undo = contextlib.ExitStack()

    @property
    def process(self) -> Any:
        return self.config["process"]

    @property
    def linux(self) -> Any:
        return self.config["linux"]

    @property
    def rootfs(self) -> tuple[Mount, ...]:
        options = (
            f"lowerdir+={self.lower}",
            f"upperdir={self.upper}",
            f"workdir={self.folder / 'work'}",
        )
        return (Mount("overlay", "overlay", "/", options),)

    def mount(self, destination: str, source: str, *options: str) -> None:
        self.config["mounts"].append(
            {
                "destination": destination,
                "type": "bind",
                "source": source,
                "options": ["rbind", *options],
            }
        )

    def start(self, stdio: Stdio | None = None, *, gate: Gate | None = None) -> Starting:
        bundle = Bundle(self.id, str(self.folder), self.config, self.rootfs, self.manner)
        starting = start(bundle, stdio, gate=gate, ahead=self.ahead)
        self.running.append(starting)
        return starting

    def run(self, *args: str) -> Result:
        """Run a command to its end; what it wrote, to stdout and stderr."""
        self.process["args"] = list(args)
        return self.collect(lambda stdio: self.start(stdio))

    def sh(self, script: str) -> str:
        """Run a shell script that must succeed; its output."""
        result = self.run("sh", "-ec", script)
        assert result.status == 0, result
        return result.output

    def target(self, starting: Starting) -> Target:
        return Target(self.id, starting.pid, starting.pidfd, self.config, starting.cgroup)

    def exec(self, starting: Starting, *args: str, **process: Any) -> Result:
        wanted = {**copy.deepcopy(self.process), **process, "args": list(args)}

        def begin(stdio: Stdio) -> Starting:
            made = execute(self.target(starting), wanted, stdio, ahead=self.ahead)  # type: ignore[arg-type] # built of Any
            self.running.append(made)
            return made

        return self.collect(begin)

    def exec_in_background(self, starting: Starting, *args: str) -> tuple[Starting, int]:
        """Run a command in a container; output_of() waits for it."""
        wanted = {**copy.deepcopy(self.process), "args": list(args)}
        reader, writer = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        stdio = Stdio(null, writer, null)
        made = execute(self.target(starting), wanted, stdio)  # type: ignore[arg-type] # built of Any
        self.running.append(made)
        os.close(writer)
        os.close(null)
        wait_ready(made)
        return made, reader

    def output_of(self, background: tuple[Starting, int]) -> str:
        starting, reader = background
        with open(reader, "rb") as output:
            data = output.read()
        self.finish(starting)
        return data.decode(errors="replace")

    def collect(self, begin: Any) -> Result:
        reader, writer = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            starting = begin(Stdio(null, writer, writer))
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
            os.close(null)
        with open(reader, "rb") as output:
            try:
                wait_ready(starting)
            except BaseException:
                self.running.remove(starting)
                raise
            data = output.read()
        return Result(self.finish(starting), data.decode(errors="replace"))

    def finish(self, starting: Starting) -> int:
        """Wait for the end of a process and take everything of it away; its exit code."""
        self.running.remove(starting)
        status = wait_exit(starting.pidfd)
        os.close(starting.pidfd)
        if starting.console is not None:
            os.close(starting.console)
        if starting.owns_cgroup and starting.cgroup is not None:
            starting.cgroup.remove()
        return status

    def sleeping(self) -> Starting:
        """Start a container that stays until it is killed."""
        self.process["args"] = ["sleep", "600"]
        null = os.open(os.devnull, os.O_RDWR)
        starting = self.start(Stdio(null, null, null))
        os.close(null)
        try:
            wait_ready(starting)
        except BaseException:
            self.running.remove(starting)
            raise
        return starting

    def close(self) -> None:
        for starting in reversed(self.running[:]):
            with contextlib.suppress(ProcessLookupError):
                pidfd_send_signal(starting.pidfd, 9)
            self.finish(starting)
        self.undo.close()


def config() -> Config:
    """Return a configuration much like Docker's default one."""
    value: Any = {
        "ociVersion": "1.2.0",
        "process": {
            "args": ["true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
        },
        "hostname": "inside",
        "mounts": copy.deepcopy(MOUNTS),
        "linux": {
            "namespaces": [
                {"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ],
            "maskedPaths": ["/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }
    checked: Config = value
    return checked
