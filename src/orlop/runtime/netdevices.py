"""Interfaces of the host that move into a container. config-linux.md, "Network Devices".

The parent moves them, because only it has the right in both namespaces; the child waits.
They are not moved back: when the namespace ends, physical ones return to the host, and
others are removed.
"""

import errno
import os
import socket

from orlop.errors import InvalidArgumentError
from orlop.kernel.namespaces import Namespace, setns
from orlop.kernel.rtnetlink import Address, Rtnetlink
from orlop.model.light import Iterable, NamedTuple
from orlop.model.oci import Linux
from orlop.runtime.plan import Namespaces

_LONGEST_NAME = 15


def plan_net_devices(linux: Linux, namespaces: Namespaces) -> tuple[tuple[str, str], ...]:
    """Return pairs of names, on the host and inside; InvalidArgumentError if one is wrong."""
    wanted = linux.get("netDevices", {})
    joined = dict(namespaces.join)
    if wanted and Namespace.NET not in namespaces.new and Namespace.NET not in joined:
        raise InvalidArgumentError("linux.netDevices needs a network namespace of its own")
    planned = []
    for name, device in wanted.items():
        inside = device.get("name") or name
        for text in (name, inside):
            if not _is_name(text, template=text is inside):
                raise InvalidArgumentError(
                    f"linux.netDevices[{name!r}]: {text!r} is no name for a network interface"
                )
        planned.append((name, inside))
    return tuple(planned)


def move_devices(devices: Iterable[tuple[str, str]], namespace: str) -> None:
    """Move *devices* into the network namespace at the path *namespace*, with their addresses.

    For a caller without threads, because it enters that namespace for a moment. OSError
    names the interface that cannot be moved.
    """
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    target = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Rtnetlink() as here:
            found = [_find(here, name, inside) for name, inside in devices]
            setns(target, Namespace.NET)
            with Rtnetlink() as there:
                for device in found:
                    _move(here, there, device, target)
    finally:
        setns(own, Namespace.NET)
        os.close(own)
        os.close(target)


class _Device(NamedTuple):
    number: int  # the interface's index
    name: str
    inside: str
    addresses: list[Address]


def _find(here: Rtnetlink, name: str, inside: str) -> _Device:
    try:
        index = socket.if_nametoindex(name)
    except OSError as error:
        raise OSError(error.errno, "there is no such network interface", name) from None
    return _Device(index, name, inside, here.permanent_addresses(index))


def _move(here: Rtnetlink, there: Rtnetlink, device: _Device, target: int) -> None:
    """Move one, from inside the *target* namespace, where its index may change."""
    before = dict(socket.if_nameindex())
    if device.inside in before.values():  # the kernel would move it before refusing the name
        number = errno.EEXIST
        raise OSError(number, "the container has a network interface of that name", device.inside)
    here.move(device.number, target, device.inside)
    index = next(index for index, _ in socket.if_nameindex() if index not in before)
    there.set_up(index, device.addresses, device.name)


def _is_name(text: str, *, template: bool) -> bool:
    if template:
        text = text.replace("%d", "0", 1)
    return (
        0 < len(os.fsencode(text)) <= _LONGEST_NAME
        and text not in (".", "..")
        and not any(c in "/:%" or c.isspace() for c in text)
    )
