"""What drivers have in common whose interface is in the container's namespace and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orlop.errors import AlreadyExistsError, UnsupportedError
from orlop.kernel.netlink import links
from orlop.kernel.netlink.connection import Netlink
from orlop.network.namespace import Home

TYPE_CHECKING = False  # a program that starts often brings plain values: network/cni/plugin
if TYPE_CHECKING:
    from orlop.model.network import Endpoint


@contextmanager
def looking(home: Home, namespace: int, endpoint: Endpoint, kind: str) -> Iterator[bool]:
    """Yield whether the interface is there from an earlier call; remove it if what follows fails.

    AlreadyExistsError where something else has its name.
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
    """Remove the interface; where there is no namespace any more it went with it."""
    if namespace is None:
        return
    with home.open_netlink(namespace) as there:
        link = links.find(there, endpoint.interface)
        if link is not None and link.kind == kind:
            _remove(there, link.ifindex)


def refuse_limit(endpoint: Endpoint, driver: str) -> None:
    """UnsupportedError for bandwidth limits, which need an end on the host."""
    if endpoint.bandwidth.ingress_bps or endpoint.bandwidth.egress_bps:
        raise UnsupportedError(f"networks of driver {driver} have no bandwidth limits")


def _remove(there: Netlink, of: int | str) -> None:
    with suppress(OSError):
        there.ask(links.remove(of))
