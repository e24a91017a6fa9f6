"""What can be asked of a sandbox, and how the engine is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orlop.client.address import Settings, settings
from orlop.errors import InvalidArgumentError

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
#: Stays, and takes leave of orphans that end: `wait` reaps them with the shell's own.
_IDLE = ("sh", "-c", "while :; do sleep 2147483647 & wait; done")


@dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """Keyword arguments of Sandbox and AsyncSandbox."""

    image: str = "host"  # or a reference, which is pulled where it is missing
    name: str | None = None
    memory: int | str | None = None  # bytes, or such as "256m"
    cpus: float | None = None  # processors' worth of time
    pids: int | None = None  # processes and threads
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[str] = ()  # as `orlop run -v` has them: "/host/folder:/inside:ro"
    user: str = ""  # name or id
    workdir: str = ""
    network: str = "none"  # or "bridge", "host", a network's name
    ports: Mapping[int, int] = field(default_factory=dict)  # TCP, inside: on this machine
    read_only: bool = False  # its root file system, not /tmp
    command: Sequence[str] = _IDLE  # its first process, with which it ends
    keep: bool = False  # it stays when its owner, or the `with` block, ends
    engine: str | None = None  # unix:///… or tcp://…; else as for the command line

    def __post_init__(self) -> None:
        self.body()  # what cannot be is refused here, not at the start

    def settings(self) -> Settings:
        """Return which engine is meant."""
        return settings(host=self.engine)

    def body(self) -> dict[str, Any]:
        """Return the body of a create request; InvalidArgumentError for what cannot be."""
        if not self.image:
            raise InvalidArgumentError("a sandbox needs an image")
        if self.ports and self.network in ("none", "host"):
            raise InvalidArgumentError(
                f"ports cannot be published with the network {self.network}",
                hint='network="bridge"',
            )
        return {
            "Image": self.image,
            "Entrypoint": list(self.command[:1]),
            "Cmd": list(self.command[1:]),
            "Env": variables(self.environment),
            "User": self.user,
            "WorkingDir": self.workdir,
            "ExposedPorts": {f"{inside}/tcp": {} for inside in self.ports},
            "HostConfig": self._host_config(),
        }

    def _host_config(self) -> dict[str, Any]:
        config = {
            "Memory": None if self.memory is None else _size(self.memory),
            "NanoCpus": None if self.cpus is None else _nano(self.cpus),
            "PidsLimit": self.pids,
            "Binds": list(self.mounts),
            "NetworkMode": self.network,
            "PortBindings": {
                f"{inside}/tcp": [{"HostPort": str(outside)}]
                for inside, outside in self.ports.items()
            },
            "ReadonlyRootfs": self.read_only,
            "Tmpfs": {"/tmp": ""} if self.read_only else None,
            "LogConfig": {"Type": "none"},
        }
        return {name: value for name, value in config.items() if value is not None}


def variables(environment: Mapping[str, str]) -> list[str]:
    """Return KEY=VALUE of each; InvalidArgumentError for a name that is none."""
    for name in environment:
        if not name or "=" in name or "\0" in name:
            raise InvalidArgumentError(f"invalid name of a variable: {name!r}")
    return [f"{name}={value}" for name, value in environment.items()]


def _size(given: int | str) -> int:
    text = str(given).strip().lower().removesuffix("b").removesuffix("i")
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS and text[-1:] else (text, "")
    try:
        size = int(float(number) * (1 << _UNITS[unit]))
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise InvalidArgumentError(f"invalid memory {given!r}", hint="bytes, or such as 256m")
    return size


def _nano(cpus: float) -> int:
    if not 0 < cpus < 1 << 20:
        raise InvalidArgumentError(f"invalid number of cpus {cpus!r}", hint="such as 0.5")
    return round(cpus * 1_000_000_000)
