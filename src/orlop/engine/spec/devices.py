"""The device nodes of a container, and its device rules."""

import os
import re
import stat
from collections.abc import Iterator

from orlop.errors import InvalidArgumentError
from orlop.model.container import ContainerOptions, DeviceMapping
from orlop.model.oci import Device, DeviceRule
from orlop.runtime.cgroups.devices import ALWAYS_ALLOWED, WITHOUT_TUN

#: Folders and nodes of /dev that a privileged container has its own version of.
_NOT_THE_HOSTS = frozenset(
    ("pts", "shm", "fd", "mqueue", "console", "ptmx", "core", "stdin", "stdout", "stderr", "log")
)
_RULE = re.compile(r"([abc]) (\d+|\*):(\d+|\*) ([rwm]{1,3})")
_MOST_NODES = 4096

#: Nothing except the devices of every container.
DEFAULT_RULES: tuple[DeviceRule, ...] = (
    {"allow": False, "access": "rwm"},
    *ALWAYS_ALLOWED,
    WITHOUT_TUN,
)


def devices(options: ContainerOptions) -> tuple[list[Device], list[DeviceRule]]:
    """Return nodes and rules; a privileged container has the host's, without limit.

    Raises:
        InvalidArgumentError: a path is not a device or missing, or a rule is malformed.
    """
    if options.privileged:
        return list(_host_nodes()), [{"allow": True, "access": "rwm"}]
    rules = list(DEFAULT_RULES)
    nodes: dict[str, Device] = {}
    for mapping in options.resources.devices:
        access = _access(mapping)
        for node in _mapped(mapping):
            nodes[node["path"]] = node
            rules.append(
                {
                    "allow": True,
                    "type": node["type"],
                    "major": node["major"],
                    "minor": node["minor"],
                    "access": access,
                }
            )
    rules += [_rule(text) for text in options.resources.device_cgroup_rules]
    return list(nodes.values()), rules


def _access(mapping: DeviceMapping) -> str:
    access = mapping.access or "rwm"
    if set(access) - set("rwm"):
        raise InvalidArgumentError(f"invalid access {access!r} of device {mapping.host_path}")
    return access


def _mapped(mapping: DeviceMapping) -> Iterator[Device]:
    """Yield the device, or every device in a folder."""
    host, target = mapping.host_path, mapping.container_path or mapping.host_path
    if not os.path.isabs(host) or not os.path.isabs(target):
        raise InvalidArgumentError(f"device {host!r} must be an absolute path, and its target too")
    if os.path.isdir(host):
        yield from _nodes(host, target)
        return
    try:
        node = _node(host, target)
    except FileNotFoundError:
        # not NotFoundError: a client would think the image is missing, and pull it
        raise InvalidArgumentError(f"no device {host}") from None
    if node is None:
        raise InvalidArgumentError(f"{host} is no device")
    yield node


def _host_nodes() -> Iterator[Device]:
    yield from _nodes("/dev", "/dev", leave_out=_NOT_THE_HOSTS)


def _nodes(
    folder: str, target: str, *, leave_out: frozenset[str] = frozenset()
) -> Iterator[Device]:
    """Yield the devices in *folder* and below; skip links and files that disappear."""
    count = 0
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if place != folder or name not in leave_out]
        for name in files:
            path = f"{place}/{name}"
            if os.path.islink(path) or (place == folder and name in leave_out):
                continue
            try:
                node = _node(path, target + path[len(folder) :])
            except FileNotFoundError:
                continue
            if node is not None:
                count += 1
                yield node
            if count >= _MOST_NODES:
                return


def _node(path: str, target: str) -> Device | None:
    status = os.stat(path)
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        return None
    return {
        "type": kind,
        "path": target,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _rule(text: str) -> DeviceRule:
    """Parse "c 13:* rwm". cgroup-v1/devices.rst."""
    match = _RULE.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(
            f"invalid device cgroup rule {text[:100]!r}", hint='such as "c 13:* rwm"'
        )
    kind, major, minor, access = match.groups()
    rule: DeviceRule = {"allow": True, "type": kind, "access": access}
    if major != "*":
        rule["major"] = int(major)
    if minor != "*":
        rule["minor"] = int(minor)
    return rule
