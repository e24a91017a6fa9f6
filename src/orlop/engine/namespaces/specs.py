"""config.json as a client sends it: what of it the engine has to know."""

import posixpath
from typing import Any, NamedTuple

import msgspec

from orlop.errors import InvalidArgumentError
from orlop.model.clients import Typed
from orlop.model.container import Resources

_MOST_DEPTH = 64


#: What can change, as config.json calls it and as ContainerOptions does.
_LIMITS = {
    "memory": {
        "limit": "memory_bytes",
        "reservation": "memory_reservation_bytes",
        "swap": "memory_swap_bytes",
    },
    "cpu": {
        "shares": "cpu_shares",
        "quota": "cpu_quota_us",
        "period": "cpu_period_us",
        "cpus": "cpuset_cpus",
        "mems": "cpuset_mems",
    },
    "pids": {"limit": "pids_limit"},
    "blockIO": {"weight": "blkio_weight"},
}


class Spec(NamedTuple):
    """A spec, and what the engine reads in it."""

    tree: dict[str, Any]
    args: tuple[str, ...]
    root: str
    read_only: bool
    network: str  # as ContainerOptions has it
    cgroup_parent: str


def parse_spec(typed: Typed | None, *, namespace: str) -> Spec:
    """Return what a container's spec says; InvalidArgumentError if it cannot be one."""
    if typed is None:
        raise InvalidArgumentError("the container has no spec")
    tree = _object(typed.value, "the spec")
    process = _part(tree, "process")
    linux = _part(tree, "linux")
    root = _part(tree, "root")
    return Spec(
        tree=tree,
        args=tuple(check_args(process)),
        root=str(root.get("path", "")),
        read_only=root.get("readonly") is True,
        network=_network(linux.get("namespaces")),
        cgroup_parent=_parent(linux.get("cgroupsPath"), namespace),
    )


def parse_process(typed: Typed) -> dict[str, Any]:
    """Return the process that is to run in a container; InvalidArgumentError."""
    process = _object(typed.value, "the process")
    check_args(process)
    return process


def parse_resources(typed: Typed) -> Resources:
    """Return the limits in config.json's resources that can change; InvalidArgumentError."""
    tree = _object(typed.value, "the resources")
    limits: dict[str, Any] = {}
    for part, names in _LIMITS.items():
        values = _part(tree, part)
        for name, option in names.items():
            value = values.get(name)
            if value is not None and value != "":
                limits[option] = value
    try:
        return msgspec.convert(limits, Resources)
    except msgspec.ValidationError as error:
        raise InvalidArgumentError(f"invalid resources: {error}") from None


def check_args(process: dict[str, Any]) -> list[str]:
    """Return the arguments of *process*; InvalidArgumentError if there are none."""
    args = process.get("args")
    if not isinstance(args, list) or not args or not all(isinstance(one, str) for one in args):
        raise InvalidArgumentError("the process has no arguments")
    return args


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        tree = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgumentError(f"{what} is not JSON: {str(error)[:200]}") from None
    if not isinstance(tree, dict):
        raise InvalidArgumentError(f"{what} is not a JSON object")
    _check_depth(tree, what)
    return tree


def _check_depth(tree: object, what: str, depth: int = _MOST_DEPTH) -> None:
    if depth == 0:
        raise InvalidArgumentError(f"{what} is nested deeper than {_MOST_DEPTH} levels")
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for child in children:
        _check_depth(child, what, depth - 1)


def _part(tree: dict[str, Any], name: str) -> dict[str, Any]:
    part = tree.setdefault(name, {})
    if not isinstance(part, dict):
        raise InvalidArgumentError(f"the spec's {name} is not an object")
    return part


def _network(namespaces: object) -> str:
    """Return "host", "none", or "ns:PATH"."""
    for one in namespaces if isinstance(namespaces, list) else ():
        if isinstance(one, dict) and one.get("type") == "network":
            path = one.get("path")
            return f"ns:{path}" if isinstance(path, str) and path else "none"
    return "host"


def _parent(path: object, namespace: str) -> str:
    """Return where the cgroup is to be; the last part of a path is the engine's."""
    if not isinstance(path, str) or not path.startswith("/"):
        return f"/{namespace}"
    parent = posixpath.dirname(path)
    return parent if parent != "/" and ".." not in parent.split("/") else f"/{namespace}"
