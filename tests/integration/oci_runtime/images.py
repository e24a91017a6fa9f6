"""Checkpoints for tests: a container that counts, and looking at what has become of it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.integration.oci_runtime.program import OCIBundle, Program, wait_for

#: Counts in its memory, and says so in a file with its pid.
COUNTER = "i=0; while :; do i=$((i+1)); echo $i $$ >> /tmp/count; sleep 0.02; done"

#: The same in Python, over what *exchange* makes of a number.
PYTHON_COUNTER = """
import os, socket, time
{prepare}
number = 0
while True:
    number += 1
    with open("/tmp/count", "a") as file:
        file.write(f"{{{exchange}}} {{os.getpid()}}\\n")
    time.sleep(0.02)
"""


class Images:
    """A container and the images made of it."""

    def __init__(self, program: Program, bundle: OCIBundle) -> None:
        self.program = program
        self.bundle = bundle
        self.path = program.folder / "images"
        self.count = bundle.root / "tmp/count"

    def counting(self) -> str:
        """Start a container that counts, and see it do so; its id."""
        name = self.running("sh", "-c", COUNTER)
        self.go_on()
        return name

    def counting_over(self, prepare: str, exchange: str) -> str:
        """Start a container that counts in Python; its id."""
        self.bundle.mount("/usr", "/usr", "ro")
        for name in ("lib", "lib64"):
            (self.bundle.root / name).symlink_to(f"usr/{name}")
        script = PYTHON_COUNTER.format(prepare=prepare, exchange=exchange)
        name = self.running("/usr/bin/python3", "-ISc", script)
        self.go_on()
        return name

    def running(self, *args: str) -> str:
        """Start a container with the null device for streams; its id."""
        self.bundle.process["args"] = list(args)
        name = self.program.id()
        with open(os.devnull, "r+") as null:
            command = ("run", "--detach", "--bundle", self.bundle.write(), name)
            self.program.ok(*command, stdout=null, stderr=null)
        return name

    def checkpoint(self, name: str, *words: str | Path) -> None:
        self.program.ok("checkpoint", "--image-path", self.path, *words, name)

    def restore(self, name: str, *words: str | Path) -> None:
        """Restore with the null device for streams."""
        with open(os.devnull, "r+") as null:
            self.program.ok(*self.restoring(name, *words), stdout=null, stderr=null)

    def restoring(self, name: str, *words: str | Path) -> list[str | Path]:
        """Return the command line of a restore that does not wait."""
        bundle = self.bundle.write()
        where: list[str | Path] = ["--image-path", self.path, "--bundle", bundle]
        return ["restore", "--detach", *where, *words, name]

    def counted(self) -> list[int]:
        """Return what the container has counted; it must have been one and the same process."""
        lines = [line.split() for line in self.count.read_text().splitlines()]
        assert {pid for _, pid in lines} <= {"1"}
        return [int(number) for number, _ in lines]

    def go_on(self) -> None:
        """Wait until the container has counted further, without a gap."""
        before = len(self.counted()) if self.count.exists() else 0
        wait_for(lambda: self.count.exists() and len(self.counted()) > before + 2)
        counted = self.counted()
        assert counted == list(range(1, len(counted) + 1))

    def stands_still(self) -> None:
        """Assert that nothing counts any more."""
        before = self.count.read_text()
        os.sync()
        assert self.count.read_text() == before


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Give *process*, which is ended in the end."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def status_of(pid: int) -> dict[str, str]:
    """Return what of /proc/PID/status says who a process is and what it may do."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    wanted = ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "SigIgn")
    return {
        name: value.strip()
        for name, value in fields.items()
        if name in wanted or name.startswith("Cap")
    }


def mounts_of(pid: int) -> list[tuple[str, ...]]:
    """Return what is mounted where and how, without the numbers that are new each time."""
    found = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        _, _, _, root, place, options = left.split()[:6]
        fstype, source, superblock = right.split()[:3]
        found.append((place, root, options, fstype, source, superblock))
    return sorted(found)
