"""Many containers whose exit codes are known, while every process of the engine is killed."""

import contextlib
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.integration.engines import processes_of
from tests.integration.kills.remains import until
from tests.integration.kills.scene import Scene

_CLIENTS = 6
_LONGEST_RUN_S = 0.4
_LONGEST_PAUSE_S = 1.0  # between two kills
_STRIKES = (
    ("engine",),
    ("shim",),
    ("reserve",),
    ("reserve",),
    ("shim", "engine"),
    ("shim", "shim"),
)
_CODES = range(1, 120)  # none that a signal or a failed start gives
_END_S = 60.0


class Ran(NamedTuple):
    """A container of the storm, the code that it was to end with, and what its start said."""

    name: str
    code: int
    started: bool


class Storm:
    """Runs containers in some threads, and kills processes in another."""

    def __init__(self, scene: Scene, folder: Path, *, seed: int) -> None:
        self._scene = scene
        self._folder = folder
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._seeds = [self._random.random() for _ in range(_CLIENTS)]
        self.kills = 0
        self.ran: list[Ran] = []
        self.failures: list[BaseException] = []

    def rage(self, seconds: float) -> None:
        """Do it for so long, and return when there is an engine with a shim again."""
        clients = [threading.Thread(target=self._guarded, args=(seed,)) for seed in self._seeds]
        for client in clients:
            client.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(self._random.uniform(0.05, _LONGEST_PAUSE_S))
            for role in self._random.choice(_STRIKES):
                self._kill(role)
        self._over.set()
        self._scene.revive()
        for client in clients:
            client.join(_END_S)
        self._scene.revive()

    def written(self, ran: Ran) -> list[int]:
        """Return the codes that the container says it has ended with: one for each run."""
        with contextlib.suppress(FileNotFoundError):
            return [int(line) for line in (self._folder / ran.name).read_text().split()]
        return []

    def _kill(self, role: str) -> None:
        process = self._scene.engine.process
        assert process is not None
        if role == "engine":
            process.kill()
            process.wait()
            self.kills += 1
            time.sleep(self._random.uniform(0, 0.3))
            self._scene.engine.start()
            return
        for pid in _pids(self._scene, role):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills += 1

    def _guarded(self, seed: float) -> None:
        chance = random.Random(seed)
        try:
            while not self._over.is_set():
                self._run(chance)
        except BaseException as error:
            self.failures.append(error)

    def _run(self, chance: random.Random) -> None:
        name, code = f"storm-{uuid.uuid4().hex[:12]}", chance.choice(_CODES)
        pause = chance.uniform(0, _LONGEST_RUN_S)
        script = f"sleep {pause:.3f}; echo {code} >> /storm/{name}; exit {code}"
        body = self._scene.body(script, Binds=[f"{self._folder}:/storm"])
        if not self._asked("POST", f"/containers/create?name={name}", body):
            return
        started = self._asked("POST", f"/containers/{name}/start")
        self.ran.append(Ran(name, code, started))
        if started:
            self._asked("POST", f"/containers/{name}/wait")

    def _asked(self, method: str, target: str, body: object = None) -> bool:
        """Whether it was answered well: an engine that dies, or misses its shim, does not."""
        try:
            status, _ = self._scene.docker.call(method, target, body)
        except OSError:
            self._over.wait(0.05)
            return False
        return status < 400


def _pids(scene: Scene, role: str) -> Iterator[int]:
    """Yield the processes of a *role*: the shim's parent is none of ours, a reserve is traced."""
    for pid in list(processes_of(scene.engine.run)):
        with contextlib.suppress(OSError):
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            traced = status["TracerPid"] != "0"
            is_one = status["Name"] == f"orlop-{role}" and traced == (role == "reserve")
            if is_one and (role == "reserve" or _is_shim(scene, pid)):
                yield pid


def _is_shim(scene: Scene, pid: int) -> bool:
    """Whether it holds the lock of the shim: a child on its way to its program does not."""
    inode = os.stat(scene.engine.run / "shim.lock").st_ino
    return any(
        words[4] == str(pid) and words[5].endswith(f":{inode}")
        for words in map(str.split, Path("/proc/locks").read_text().splitlines())
        if len(words) > 5 and words[1] == "POSIX"
    )


def settle(scene: Scene, ran: list[Ran]) -> None:
    """Wait until no container of the storm runs."""

    def over() -> bool:
        found = scene.docker.ok("GET", "/containers/json")
        return all(item["Id"] == scene.witness for item in found)

    until(over, "the end of all containers", timeout_s=_END_S)
