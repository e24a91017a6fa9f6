"""What can be asked of a sandbox, and how the engine is told."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from orlop.client.address import Settings, settings
from orlop.errors import InvalidArgumentError
from orlop.model.egress import parse_all
from orlop.model.sizes import parse_size
from orlop.sandbox.arguments import (
    check_list,
    check_seconds,
    check_text,
    check_variables,
    is_count,
    user_text,
)

if TYPE_CHECKING:
    from orlop.sandbox.image import Image  # which few programs need

_DISK_BYTES = 1 << 30  # that a sandbox may write unless it asks for another number
#: Stays, and takes leave of orphans that end: `wait` reaps them with the shell's own. Where
#: there can be no second process the shell gives up, and becomes the one that sleeps.
IDLE = (
    "sh",
    "-c",
    "trap 'exec sleep 2147483647' EXIT; while :; do sleep 2147483647 & wait; done",
)

Face = TypeVar("Face", bound="Options")


def named(face: type[Face]) -> type[Face]:
    """Give *face* an __init__ of its own, a copy of its base's, so that errors name *face*.

    Without it a misspelt option is an error of `Options.__init__()`, which no program calls.
    """
    base = face.__init__
    own = FunctionType(base.__code__, base.__globals__, "__init__", None, base.__closure__)
    own.__kwdefaults__, own.__annotations__ = base.__kwdefaults__, base.__annotations__
    own.__qualname__ = f"{face.__qualname__}.__init__"
    face.__init__ = own  # type: ignore[method-assign]
    return face


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Options:
    """Keyword arguments of Sandbox and AsyncSandbox; Sandbox's docstring explains each."""

    image: "str | Image" = "host"
    name: str | None = None
    memory: int | str | None = None
    cpus: float | None = None
    pids: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[str] = ()
    user: str | int = ""
    workdir: str = ""
    network: str = "none"
    neighbours: bool | None = None
    ports: Mapping[int, int] | Sequence[int] = ()
    egress: Sequence[str] | None = None
    cap_add: Sequence[str] = ()
    userns: str = ""
    read_only: bool = False
    command: Sequence[str] = IDLE
    keep: bool = False
    lifetime: float | None = None
    disk: int | str | None = None
    timed: bool = False
    engine: str | None = None

    def __post_init__(self) -> None:
        if not callable(getattr(self.image, "reference", None)):
            check_text("image", self.image)
        for name in ("workdir", "network", "userns"):
            check_text(name, getattr(self, name))
        for name in ("name", "engine"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        check_list("mounts", self.mounts)
        check_list("cap_add", self.cap_add)
        check_list("command", self.command)
        check_seconds("lifetime", self.lifetime)
        self.body()  # what cannot be is refused here, not at the start

    def __repr__(self) -> str:
        told = []
        for option in fields(self):
            factory, value = option.default_factory, getattr(self, option.name)
            if value != (option.default if factory is MISSING else factory()):
                told.append(f"{option.name}={value!r}")
        return f"{type(self).__name__}({', '.join(told)})"

    def given(self) -> dict[str, Any]:
        """Return them by name, for another object with the same."""
        return {option.name: getattr(self, option.name) for option in fields(self)}

    def of_fork(self) -> "Options":
        """Return those of a copy beside the one that has these: what only one can have is new."""
        given = {**self.given(), "name": None, "ports": tuple(self.ports)}
        return Options(**given)

    @property
    def published(self) -> Mapping[int, int]:
        """*ports*, with 0 for those that are to be published as any."""
        if isinstance(self.ports, Mapping):
            return self.ports
        if isinstance(self.ports, (str, bytes)) or not isinstance(self.ports, Iterable):
            raise InvalidArgumentError(f"invalid ports {self.ports!r}", hint="[80], or {80: 8080}")
        return dict.fromkeys(self.ports, 0)

    @property
    def reference(self) -> str:
        """The engine's name or id of *image*, which is built first if it is an Image."""
        return self.image if isinstance(self.image, str) else self.image.reference(self.engine)

    @property
    def disk_bytes(self) -> int | None:
        """*disk* as a number."""
        return None if self.disk is None else _size("disk", self.disk)

    def settings(self) -> Settings:
        """Return which engine is meant."""
        return settings(host=self.engine)

    def body(self) -> dict[str, Any]:
        """Return the body of a create request; InvalidArgumentError for what cannot be."""
        if not self.reference:
            raise InvalidArgumentError("a sandbox needs an image")
        check_variables(self.environment)
        _check_ports(self.published)
        if self.ports and self.network in ("none", "host"):
            raise InvalidArgumentError(
                f"ports cannot be published with the network {self.network}",
                hint='network="bridge"',
            )
        _check_egress(self.egress, self.network)
        body = {
            "Image": self.reference,
            "Entrypoint": list(self.command[:1]),
            "Cmd": list(self.command[1:]),
            "Env": variables(self.environment),
            "User": user_text(self.user),
            "WorkingDir": self.workdir,
            "ExposedPorts": {f"{inside}/tcp": {} for inside in self.published},
            "HostConfig": self._host_config(),
        }
        if self._is_apart():
            endpoint = {"DriverOpts": {"icc": "false"}}
            body["NetworkingConfig"] = {"EndpointsConfig": {self.network: endpoint}}
        return body

    def _is_apart(self) -> bool:
        """Whether neighbours are to be out of reach; InvalidArgumentError where they cannot be."""
        if self.neighbours not in (None, True, False):
            raise InvalidArgumentError(
                f"invalid neighbours {self.neighbours!r}", hint="True, False or None"
            )
        mode = self.network.partition(":")[0]
        if self.neighbours is False and mode in ("host", "container", "ns"):
            raise InvalidArgumentError(
                f"neighbours=False does not go with the network {self.network}",
                hint='network="bridge"',
            )
        is_usual = self.neighbours is None and mode in ("bridge", "default")
        return is_usual or (self.neighbours is False and mode not in ("", "none"))

    def _host_config(self) -> dict[str, Any]:
        config = {
            "Memory": None if self.memory is None else _size("memory", self.memory),
            "NanoCpus": None if self.cpus is None else _nano(self.cpus),
            "PidsLimit": self.pids,
            "Binds": list(self.mounts),
            "NetworkMode": self.network,
            "PortBindings": {
                f"{inside}/tcp": [{"HostPort": str(outside or "")}]
                for inside, outside in self.published.items()
            },
            "Egress": None if self.egress is None else list(self.egress),
            "CapAdd": list(self.cap_add) or None,
            "CapDrop": _dropped(self.cap_add),
            "UsernsMode": self.userns or None,
            "ReadonlyRootfs": self.read_only,
            "Tmpfs": self._tmpfs() if self.read_only else None,
            "LogConfig": {"Type": "none"},
        }
        return {name: value for name, value in config.items() if value is not None}

    def _tmpfs(self) -> dict[str, str]:
        size = self.disk_bytes or _DISK_BYTES
        return {"/tmp": f"size={size},nr_inodes={max(size // 4096, 1024)}"}


def _dropped(added: Sequence[str]) -> list[str] | None:
    """Return what a sandbox lacks of Docker's capabilities, unless it is asked for.

    With NET_RAW a program can send packets in the name of others.
    """
    names = {name.upper().removeprefix("CAP_") for name in added}
    return None if names & {"NET_RAW", "ALL"} else ["NET_RAW"]


def _check_ports(ports: Mapping[int, int]) -> None:
    for inside, outside in ports.items():
        if not (_is_port(inside) and (outside == 0 or _is_port(outside))):
            raise InvalidArgumentError(f"invalid port {inside}: {outside}", hint="1 to 65535")


def _is_port(given: object) -> bool:
    return is_count(given) and given < 65536


def _check_egress(egress: Sequence[str] | None, network: str) -> None:
    if egress is None:
        return
    check_list("egress", egress)
    if network in ("none", "host"):
        raise InvalidArgumentError(
            f"an egress list does not go with the network {network}", hint='network="bridge"'
        )
    parse_all(egress)


def variables(environment: Mapping[str, str]) -> list[str]:
    """Return KEY=VALUE of each."""
    return [f"{name}={value}" for name, value in environment.items()]


def _size(what: str, given: int | str) -> int:
    try:
        size = parse_size(str(given))
    except ValueError:
        size = 0
    if size <= 0:
        raise InvalidArgumentError(f"invalid {what} {given!r}", hint="bytes, or such as 256m")
    return size


def _nano(cpus: float) -> int:
    if isinstance(cpus, (str, bytes)) or not 0 < cpus < 1 << 20:
        raise InvalidArgumentError(f"invalid number of cpus {cpus!r}", hint="such as 0.5")
    return round(cpus * 1_000_000_000)
