"""`orlop-runtime` as others call it: bundles of busybox, a folder of its own, nothing left."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.integration.runtime.box import config

SCRIPT = Path(sys.executable).with_name("orlop-runtime")
_PATIENCE_S = 60


class Program:
    """The program, with every container that it made taken away in the end."""

    def __init__(self, folder: Path, *, script: Path = SCRIPT) -> None:
        self.folder = folder
        self.script = script
        self.root = folder / "state"
        self.environment: dict[str, str] = {}
        self.prefix: tuple[str, ...] = ()  # what is to call it, as setpriv
        self.ids: list[str] = []

    def call(self, *words: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run one command line to its end; bytes that are no text come back as they can."""
        return subprocess.run(
            [*self.prefix, self.script, "--root", self.root, *words],
            stdin=subprocess.DEVNULL,
            stdout=how.pop("stdout", subprocess.PIPE),
            stderr=how.pop("stderr", subprocess.PIPE),
            env={**os.environ, **self.environment},
            timeout=_PATIENCE_S,
            encoding="utf-8",
            errors="replace",
            check=False,
            **how,
        )

    def ok(self, *words: str | Path, **how: Any) -> str:
        """Run a command line that must succeed; what it wrote to stdout."""
        done = self.call(*words, **how)
        assert done.returncode == 0, done
        return str(done.stdout)

    def refused(self, *words: str | Path, **how: Any) -> str:
        """Run a command line that must fail in one clear line; that line, with plain quotes."""
        done = self.call(*words, **how)
        assert done.returncode != 0, done
        assert "Traceback" not in done.stderr
        lines = str(done.stderr).strip().splitlines()
        assert len(lines) == 1, done
        return lines[0].replace('\\"', '"')

    def id(self) -> str:
        """Return a new id; close() deletes what has it."""
        self.ids.append(f"orlop-test-{uuid.uuid4().hex[:12]}")
        return self.ids[-1]

    def create(self, bundle: "OCIBundle", *words: str | Path) -> str:
        """Create a container with its output in a file; its id."""
        name = self.id()
        with open(bundle.output, "w") as file:
            self.ok("create", "--bundle", bundle.write(), *words, name, stdout=file, stderr=file)
        return name

    def run(self, bundle: "OCIBundle", *args: str) -> subprocess.CompletedProcess[str]:
        """Run a program in a container of its own to the end."""
        bundle.process["args"] = list(args)
        return self.call("run", "--bundle", bundle.write(), self.id())

    def sh(self, bundle: "OCIBundle", script: str) -> str:
        """Run a shell script that must succeed in a container of its own; its output."""
        done = self.run(bundle, "sh", "-ec", script)
        assert done.returncode == 0, done
        return str(done.stdout)

    def running(self, bundle: "OCIBundle", *args: str) -> str:
        """Start a container that stays; its id."""
        bundle.process["args"] = list(args) or ["sleep", "600"]
        name = self.create(bundle)
        self.ok("start", name)
        return name

    def state(self, name: str) -> Any:
        return json.loads(self.ok("state", name))

    def pid(self, name: str) -> int:
        return int(self.state(name)["pid"])

    def ended(self, name: str) -> None:
        """Wait for a container's end."""
        wait_for(lambda: self.state(name)["status"] == "stopped")

    def close(self) -> None:
        for name in self.ids:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.call("delete", "--force", name)
        assert [p.name for p in self.root.glob("*")] == []
        shutil.rmtree(self.root, ignore_errors=True)


class OCIBundle:
    """A bundle on disk: a root of busybox's, and a configuration to change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "rootfs"
        self.output = folder / "output"
        for name in ("bin", "etc", "tmp"):
            (self.root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.root / "bin/busybox")
        subprocess.run([self.root / "bin/busybox", "--install", self.root / "bin"], check=True)
        (self.root / "etc/passwd").write_text(
            "root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/home/a:/bin/sh\n"
        )
        (self.root / "etc/group").write_text("root:x:0:\nstaff:x:50:bob,alice\n")
        self.config: Any = {**config(), "root": {"path": "rootfs"}}

    @property
    def process(self) -> Any:
        return self.config["process"]

    @property
    def linux(self) -> Any:
        return self.config["linux"]

    def mount(self, destination: str, source: str | Path, *options: str) -> None:
        self.config["mounts"].append(
            {
                "destination": destination,
                "type": "bind",
                "source": str(source),
                "options": ["rbind", *options],
            }
        )

    def namespace(self, kind: str, path: str = "") -> None:
        """Join the namespace at *path*, or have a new one."""
        rest = [entry for entry in self.linux["namespaces"] if entry["type"] != kind]
        self.linux["namespaces"] = [*rest, {"type": kind, **({"path": path} if path else {})}]

    def capable(self, *names: str) -> None:
        """Give the process more capabilities."""
        for kind in ("bounding", "effective", "permitted"):
            self.process["capabilities"][kind] = [*self.process["capabilities"][kind], *names]

    def program(self, path: str, text: str) -> Path:
        """Put an executable file into the root."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
        return file

    def write(self) -> Path:
        """Write config.json; the bundle's folder."""
        (self.folder / "config.json").write_text(json.dumps(self.config))
        return self.folder


def wait_for(condition: Callable[[], bool], *, patience_s: float = 10) -> None:
    """Wait until *condition* holds, or fail."""
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def cgroups(names: Sequence[str]) -> list[str]:
    """Return the cgroups that bear one of *names*, in whatever hierarchy."""
    found = Path("/sys/fs/cgroup").glob("**/orlop-test-*")
    return [str(path) for path in found if path.name in names]
