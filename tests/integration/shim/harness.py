"""A shim of a test's own, and bundles with Debian's busybox for a root file system."""

import contextlib
import json
import os
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orlop.shim.channel import Message
from orlop.shim.client import Client
from orlop.shim.launch import launch

CGROUPS = Path("/sys/fs/cgroup")
NAMESPACES = ("pid", "mount", "ipc", "uts", "network")


class FailedError(Exception):
    """The shim answered with an error."""

    def __init__(self, failure: Message) -> None:
        super().__init__(failure["message"])
        self.kind = failure["kind"]


class Shim:
    """A running shim and a connection to it; close() leaves nothing of either."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.parent = f"/orlop-test-{uuid.uuid4().hex[:8]}"
        self.rootfs: list[Any] = []  # instead of the bundle's root
        self.linux: dict[str, Any] = {}  # more of config.json's "linux"
        self._folder = folder
        self.root = make_root(folder / "root")
        launch(str(self.run))
        self.client = self._connect()

    def _connect(self) -> Client:
        client = Client(str(self.run / "shim.sock"))
        client.call({"op": "subscribe"})
        return client

    def again(self) -> None:
        """Launch a shim in the place of one that was killed."""
        self.client.close()
        launch(str(self.run))
        self.client = self._connect()

    @property
    def pid(self) -> int:
        return int(self.request(op="hello")["pid"])

    @property
    def stdio_pid(self) -> int:
        with self.stdio() as stdio:
            return int(stdio.call({"op": "hello"})["ok"]["pid"])

    @contextlib.contextmanager
    def stdio(self) -> Iterator[Client]:
        client = Client(str(self.run / "stdio.sock"))
        try:
            yield client
        finally:
            client.close()

    def request(self, **message: Any) -> Any:
        answer = self.client.call(message)
        if "error" in answer:
            raise FailedError(answer["error"])
        return answer["ok"]

    def bundle(self, name: str, *args: str, terminal: bool = False) -> Path:
        bundle = self._folder / name
        bundle.mkdir(exist_ok=True)
        process = {
            "args": list(args),
            "cwd": "/",
            "env": ["PATH=/bin", "TERM=xterm"],
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
        }
        config: dict[str, Any] = {
            "ociVersion": "1.2.0",
            "root": {"path": str(self.root)},
            "process": process,
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["mode=755"],
                },
                {
                    "destination": "/dev/pts",
                    "type": "devpts",
                    "source": "devpts",
                    "options": ["newinstance", "ptmxmode=0666", "mode=0620"],
                },
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in NAMESPACES],
                "cgroupsPath": f"{self.parent}/{name}",
            },
        }
        config["linux"].update(self.linux)
        (bundle / "config.json").write_text(json.dumps(config))
        return bundle

    def bundle_config(self, name: str) -> dict[str, Any]:
        """Return the config.json that bundle() has written."""
        config: dict[str, Any] = json.loads((self._folder / name / "config.json").read_text())
        return config

    def write_config(self, name: str, config: dict[str, Any]) -> None:
        (self._folder / name / "config.json").write_text(json.dumps(config))

    def log_path(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def io(self, name: str, **changes: Any) -> Message:
        log = {"path": str(self.log_path(name)), "max_size": 0, "max_files": 1}
        return {"terminal": False, "stdin": False, "stdin_once": False, "log": log, **changes}

    def start_message(self, name: str, *args: str, **io: Any) -> Message:
        bundle = self.bundle(name, *args, terminal=io.get("terminal", False))
        return {
            "op": "start",
            "id": name,
            "bundle": str(bundle),
            "rootfs": self.rootfs,
            "io": self.io(name, **io),
        }

    def start(self, name: str, *args: str, **io: Any) -> Any:
        return self.request(**self.start_message(name, *args, **io))

    def execute(self, name: str, exec_id: str, *args: str, **io: Any) -> Any:
        process = {
            "args": list(args),
            "cwd": "/",
            "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0},
        }
        process["terminal"] = io.get("terminal", False)
        streams = {"terminal": False, "stdin": False, "stdin_once": True, "log": None, **io}
        return self.request(op="exec", id=name, exec_id=exec_id, process=process, io=streams)

    def wait_exit(self, name: str, exec_id: str | None = None) -> Message:
        """Return the exit event of the process; other events stay."""
        others: list[Message] = []
        while True:
            event = self.client.wait_event()
            if event.get("id") == name and event.get("exec_id") == exec_id:
                self.client.events = others + self.client.events
                return event
            others.append(event)

    def run_to_end(self, name: str, *args: str, **io: Any) -> Message:
        self.start(name, *args, **io)
        event = self.wait_exit(name)
        self.request(op="forget", id=name)
        return event

    def output(self, name: str) -> str:
        if not self.log_path(name).exists():  # the stdio process has not got to it
            return ""
        lines = self.log_path(name).read_text().splitlines()
        return "".join(json.loads(line)["log"] for line in lines)

    def attach(self, key: str, *, wait: bool = False, **changes: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        request = {
            "op": "attach", "key": key, "wait": wait, "stdin": True, "stdout": True,
            "stderr": True, "detach_keys": "ctrl-p,ctrl-q", "pending": "", **changes,
        }  # fmt: skip
        with theirs, self.stdio() as stdio:
            answer = stdio.call(request, [theirs.fileno()])
        if "error" in answer:
            ours.close()
            raise FailedError(answer["error"])
        return ours

    def cgroups(self) -> list[Path]:
        return [path for path in CGROUPS.glob(f"*{self.parent}/*") if path.is_dir()]

    def kill_shim(self) -> None:
        kill_and_wait(self.pid)

    def close(self) -> None:
        """Kill what runs, end the shim, remove the cgroups."""
        with contextlib.suppress(Exception):
            self.client.close()
            launch(str(self.run))
            self.client = self._connect()
            for item in self.request(op="list"):
                if item.get("running") and "exec_id" not in item:
                    self.request(op="signal", id=item["id"], signal=9)
            eventually(lambda: not [i for i in self.request(op="list") if i.get("running")])
        stdio_pid = 0
        with contextlib.suppress(Exception):
            stdio_pid = self.stdio_pid
        with contextlib.suppress(Exception):
            eventually(lambda: "ok" in self.client.call({"op": "shutdown"}))
        self.client.close()
        if stdio_pid:
            eventually(lambda: state_of(stdio_pid) in ("", "Z"))
        for pid in processes_naming(str(self.run)):
            kill_and_wait(pid)
        for folder in CGROUPS.glob(f"*{self.parent}"):
            for child in folder.iterdir():
                if child.is_dir():
                    child.rmdir()
            folder.rmdir()


def make_root(root: Path) -> Path:
    for name in ("bin", "proc", "dev", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for tool in (
        "sh",
        "cat",
        "echo",
        "sleep",
        "yes",
        "head",
        "true",
        "false",
        "stty",
        "seq",
        "tty",
    ):
        (root / "bin" / tool).symlink_to("busybox")
    (root / "bin/data").write_text("not a program")
    return root


def eventually(condition: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def kill_and_wait(pid: int) -> None:
    """Kill -9 a process that need not be our child, and wait until it is gone or a zombie."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:  # in reserve, it died with its shim
        return
    try:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: state_of(pid) in ("", "Z", "X"))
    finally:
        os.close(pidfd)


def processes_naming(argument: str) -> list[int]:
    """Return the processes that have *argument* on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if argument.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def payloads(framed: bytes) -> dict[int, bytes]:
    """Take Docker's frames apart: what came on each stream."""
    streams = {1: b"", 2: b""}
    while framed:
        length = int.from_bytes(framed[4:8], "big")
        streams[framed[0]] += framed[8 : 8 + length]
        framed = framed[8 + length :]
    return streams


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]
