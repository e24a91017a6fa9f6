"""Which namespaces are new, joined or the host's, and the kernel parameters that go with them."""

from collections.abc import Iterator

from orlop.engine.networks.modes import has_own_namespace, names_network
from orlop.engine.spec.given import Given
from orlop.errors import InvalidArgumentError
from orlop.model.container import ContainerOptions
from orlop.model.oci import Namespace

#: As Docker: pings without a capability, and ports below 1024 for everybody, since the
#: network namespace is the container's own.
_NETWORK_DEFAULTS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}
_NOT_OWN = ("host", "container:", "pod:")
_IPC_KEYS = frozenset(
    f"kernel.{name}"
    for name in [
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
    ]
)


def namespaces(given: Given) -> list[Namespace]:
    """Return the namespaces: new, unless the mode says host, container:NAME or ns:PATH.

    Also of a container on networks, or in a pod: they then come with the start's message.
    """
    result: list[Namespace] = [{"type": "mount"}]
    if given.uid_mappings:
        result.append({"type": "user"})
    for kind, mode in _modes(given.options):
        if mode == "host":
            continue
        if mode.startswith("container:"):
            if kind not in given.joined:
                raise InvalidArgumentError(f"{kind} mode {mode!r} names no running container")
            result.append({"type": kind, "path": given.joined[kind]})
        elif kind == "network" and mode.startswith("ns:"):
            result.append({"type": kind, "path": _path(mode)})
        else:
            result.append({"type": kind})
    return result


def _modes(options: ContainerOptions) -> Iterator[tuple[str, str]]:
    """Give type and mode; InvalidArgumentError for a mode that nobody knows."""
    known = {
        "network": (options.network, ("", "none", "private")),
        "ipc": (options.ipc, ("", "none", "private", "shareable")),
        "pid": (options.pid, ("", "private")),
        "uts": (options.uts, ("", "private")),
        "cgroup": (options.cgroupns, ("", "private")),
    }
    joinable = ("network", "ipc", "pid")
    for kind, (mode, own) in known.items():
        joins = mode.startswith("container:") and kind in joinable
        if kind != "cgroup" and mode.startswith("pod:"):
            joins = True
        if kind == "network" and (names_network(mode) or mode.startswith("ns:")):
            joins = True
        if mode != "host" and not joins and mode not in own:
            raise InvalidArgumentError(f"invalid {kind} mode {mode!r}")
        yield kind, mode


def _path(mode: str) -> str:
    path = mode.removeprefix("ns:")
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"network mode {mode[:200]!r}: the path is not absolute")
    return path


def sysctls(given: Given) -> dict[str, str]:
    """Return the parameters to set.

    Raises:
        InvalidArgumentError: one would change the host, or is of a namespace
            that the container does not have for itself.
    """
    options = given.options
    for key in options.sysctls:
        _check(key.replace("/", "."), options)
    own_network = has_own_namespace(options.network)
    # In a user namespace the range of groups would have to be one that is mapped.
    defaults = _NETWORK_DEFAULTS if own_network and not given.uid_mappings else {}
    return {**defaults, **options.sysctls}


def _check(key: str, options: ContainerOptions) -> None:
    if key.startswith("net."):
        kind, mode = "network", options.network
    elif key in _IPC_KEYS or key.startswith("fs.mqueue."):
        kind, mode = "ipc", options.ipc
    elif key == "kernel.domainname":
        kind, mode = "uts", options.uts
    else:
        raise InvalidArgumentError(
            f"sysctl {key!r} is not of a namespace: it would change the host",
            hint="net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm* can be set",
        )
    shared = not has_own_namespace(mode) if kind == "network" else mode.startswith(_NOT_OWN)
    if shared:
        raise InvalidArgumentError(
            f"sysctl {key!r} needs a {kind} namespace of the container's own, not {mode!r}"
        )
