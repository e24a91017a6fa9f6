"""From a validation program and an OCI runtime to what the program found."""

import contextlib
import itertools
import json
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.validation.suite import INSIDE, ROOTFS, programs

CHECK = re.compile(
    r"^(?P<failed>not )?ok \d+(?: - (?P<what>.*?))?(?: # (?P<directive>SKIP|TODO).*)?$"
)
DOCUMENT = "  ---"
#: Containers without a mount namespace of their own mount what they need in the caller's.
APART = ("unshare", "--mount", "--propagation", "private")
#: The programs that use one cgroup of a fixed name: they take turns.
USE_ONE_CGROUP = ("linux_cgroups_", "delete_only_create_resources", "delete_resources")
_one_cgroup = threading.Lock()


@dataclass(frozen=True, slots=True)
class Findings:
    """What one program says of one runtime: whether each check passed, and the rest it wrote."""

    checks: Mapping[str, bool]
    output: str

    @property
    def passed(self) -> set[str]:
        return {check for check, passed in self.checks.items() if passed}

    @property
    def failed(self) -> set[str]:
        return self.checks.keys() - self.passed


def validate(program: str, runtime: Path, *, timeout_s: float = 90) -> Findings:
    """Run *program* against *runtime*, with a state folder of its own; leave nothing behind."""
    turn = _cgroup() if program.startswith(USE_ONE_CGROUP) else contextlib.nullcontext()
    with turn, tempfile.TemporaryDirectory(prefix="oci-") as folder:
        place = Path(folder)
        place.chmod(0o755)  # a container's root may be nobody to the host
        for needed in (INSIDE, ROOTFS):
            shutil.copy(programs() / needed, place)
        command = _wrapper(place, runtime)
        try:
            status, output = _run(program, place, command, timeout_s)
        finally:
            _delete_what_is_left(command)
        said = (place / "said").read_text(errors="replace")
    return Findings(read_tap(output, status), output + said)


def _wrapper(place: Path, runtime: Path) -> Path:
    """Write a program that is *runtime* with a state folder in *place*.

    A signal waits until the shell in the container has set its traps: programs send it at once.
    """
    command = place / "runtime"
    command.write_text(
        "#!/bin/sh\n"
        '[ "$1" != kill ] || sleep 0.4\n'
        f'exec {shlex.quote(str(runtime))} --root {place}/state "$@"\n'
    )
    command.chmod(0o755)
    return command


def _run(program: str, place: Path, command: Path, timeout_s: float) -> tuple[int, str]:
    """Return the exit status and the output; what a container may hold open is never a pipe."""
    (place / "bundles").mkdir()
    with (place / "output").open("wb") as output, (place / "said").open("wb") as said:
        done = subprocess.run(
            [*APART, programs() / program],
            cwd=place,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "RUNTIME": str(command),
                "TMPDIR": str(place / "bundles"),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=said,
            timeout=timeout_s,
        )
    return done.returncode, (place / "output").read_text(errors="replace")


def _delete_what_is_left(command: Path) -> None:
    """Programs that fail midway leave their container."""
    listed = subprocess.run([command, "list", "-q"], capture_output=True, text=True, timeout=30)
    for name in listed.stdout.split():
        subprocess.run([command, "delete", "--force", name], capture_output=True, timeout=30)


@contextlib.contextmanager
def _cgroup() -> Iterator[None]:
    """Take the turn; then remove the parents of the cgroup, which runtimes leave."""
    with _one_cgroup:
        try:
            yield
        finally:
            for pattern in ("cgrouptest", "testdir/cgrouptest", "testdir"):
                for folder in _anywhere_in_cgroups(pattern):
                    with contextlib.suppress(FileNotFoundError):
                        folder.rmdir()


def _anywhere_in_cgroups(pattern: str) -> Iterator[Path]:
    """Find *pattern* at the roots of the hierarchies, and in this process's own cgroups."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup"):
            mounted = Path(fields.split()[4])
            for own in {entry.split(":", 2)[2] for entry in _own_cgroups()}:
                yield mounted / own.strip("/") / pattern
            yield mounted / pattern


def _own_cgroups() -> list[str]:
    return Path("/proc/self/cgroup").read_text().splitlines()


def read_tap(text: str, status: int) -> dict[str, bool]:
    """Return whether each check passed, by its description, numbered where it is there twice.

    Skipped checks, and those that are allowed to fail, are left out. Some programs write no check
    at all, but a document with an "error" when they found one; and each has to end well.
    """
    seen: Counter[str] = Counter()
    checks: dict[str, bool] = {}
    for line in text.splitlines():
        if (found := CHECK.match(line)) and not found["directive"]:
            what = found["what"] or "(no description)"
            seen[what] += 1
            name = what if seen[what] == 1 else f"{what} ({seen[what]})"
            checks[name] = not found["failed"]
    if not checks and status == 0:
        checks["nothing to complain of"] = not any(_complaints(text))
    checks["ends well"] = status == 0
    return checks


def _complaints(text: str) -> Iterator[str]:
    lines = text.splitlines()
    for mark, document in itertools.pairwise(lines):
        if mark == DOCUMENT and "error" in (told := json.loads(document)):
            yield told["error"]
