"""The common part of drivers whose interface is only in the container's namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orlop.errors import AlreadyExistsError, UnsupportedError
from orlop.kernel.netlink import links
from orlop.kernel.netlink.connection import Netlink
from orlop.network.namespace import Home

TYPE_CHECKING = False  # programs that start often pass plain values: network/cni/plugin
if TYPE_CHECKING:
    from orlop.model.network import Endpoint


@contextmanager
def looking(home: Home, namespace: int, endpoint: Endpoint, kind: str) -> Iterator[bool]:
    """Yield whether the interface exists already; remove it if the block fails.

    AlreadyExistsError if another interface has its name.
    """
    with home.open_netlink(namespace) as there:
        link = links.find(there, endpoint.interface)
        if link is not None and link.kind != kind:
            raise AlreadyExistsError(
                f"the container has a network interface {endpoint.interface} already"
            )
        try:
            yield link is not None
        except BaseException:
            if link is None:
                _remove(there, endpoint.interface)
            raise


def remove(home: Home, namespace: int | None, endpoint: Endpoint, kind: str) -> None:
    """Remove the interface; without a namespace it is gone already."""
    if namespace is None:
        return
    with home.open_netlink(namespace) as there:
        link = links.find(there, endpoint.interface)
        if link is not None and link.kind == kind:
            _remove(there, link.ifindex)


def refuse_limit(endpoint: Endpoint, driver: str) -> None:
    """Raise UnsupportedError for bandwidth limits, which need an end on the host."""
    if endpoint.bandwidth.ingress_bps or endpoint.bandwidth.egress_bps:
        raise UnsupportedError(f"networks of driver {driver} have no bandwidth limits")


def _remove(there: Netlink, of: int | str) -> None:
    with suppress(OSError):
        there.ask(links.remove(of))
