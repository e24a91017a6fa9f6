"""OCI runtimes, each on a bundle that is there: no image, no engine."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orlop.benchmark.driver import IDLE, MEMORY_BYTES, PIDS, TimedStart, timed
from orlop.benchmark.image import Image
from orlop.benchmark.peers import daemons
from orlop.benchmark.peers.command import CommandDriver, orlop_program, unique
from orlop.errors import UnavailableError
from orlop.runtime import seccomp_default, seccomp_profile

OURS = "orlop-runtime"


class OCIRuntime(CommandDriver):
    """`run` of the image's folder, read-only, as `orlop-runtime spec` has it, with the limits."""

    note = "has no image, and its root is read-only"

    def __init__(self, name: str, program: str, image: Image, places: Sequence[Path]) -> None:
        self.name = name
        self.front = [program, "--root", str(places[1] / "state")]
        self._image = image
        self._folder = places[0]
        if program.endswith(OURS):  # sealed, and of the code that is there now
            self.call("env", "ORLOP_SEAL_ANEW=1", program, "--version")
        self._probe = self.bundle(image.probe())

    def bundle(
        self, command: Sequence[str], *, cpus: float | None = None, cgroup: str | None = None
    ) -> Path:
        """Make a bundle that runs *command*; the same for each runtime."""
        bundle = self._folder / unique()
        bundle.mkdir()
        self.call(orlop_program(OURS), "spec", "--bundle", str(bundle))
        file = bundle / "config.json"
        config: dict[str, Any] = json.loads(file.read_text())
        config["root"] = {"path": str(self._image.rootfs), "readonly": True}
        config["process"] |= {"terminal": False, "args": list(command), "env": ["PATH=/bin"]}
        linux = config["linux"]
        linux["seccomp"] = seccomp_profile.resolve(seccomp_default.profile(), frozenset())
        linux["resources"] |= {"memory": {"limit": MEMORY_BYTES}, "pids": {"limit": PIDS}}
        if cpus is not None:
            linux["resources"]["cpu"] = {"quota": int(cpus * 100_000), "period": 100_000}
        if cgroup is not None:
            linux["cgroupsPath"] = cgroup
        file.write_text(json.dumps(config))
        return bundle

    def once(self) -> TimedStart:
        words = [*self.front, "run", "--bundle", str(self._probe), unique()]
        return timed(self._image, lambda: self.call(*words))

    def open(self, command: Sequence[str] = IDLE, *, cpus: float | None = None) -> str:
        name = unique()
        bundle = self.bundle(command, cpus=cpus)
        self.detach(*self.front, "run", "-d", "--bundle", str(bundle), name)
        return name

    def execute(self, identifier: str) -> None:
        self.call(*self.front, "exec", identifier, "true")

    def remove(self, identifiers: Sequence[str]) -> None:
        for identifier in identifiers:
            self.call(*self.front, "delete", "-f", identifier)

    def forget(self) -> None:
        """Remove what an interrupted run has left."""
        with suppress(UnavailableError):
            self.remove(self.call(*self.front, "list", "-q").decode().split())


@contextmanager
def runtime(
    image: Image, folder: Path, run: Path, *, start: bool, program: str, name: str = ""
) -> Iterator[list[OCIRuntime]]:
    """Use a runtime with a state folder of its own, if it runs containers on this machine."""
    del start
    daemons.required(program)
    driver = OCIRuntime(name or Path(program).name, program, image, (folder, run))
    try:
        driver.once()
        yield [driver]
    finally:
        driver.forget()
