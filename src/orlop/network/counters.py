"""The traffic of a container's interfaces, for `stats`, read with one request to the kernel."""

from collections.abc import Iterable

from orlop.kernel.netlink import links
from orlop.kernel.netlink.links import Counters
from orlop.model.network import Endpoint
from orlop.network import ownership
from orlop.network.namespace import Home


def of_endpoints(home: Home, endpoints: Iterable[Endpoint]) -> dict[str, Counters]:
    """Return counters by the interface's name inside, read at the ends on the host.

    Interfaces without an end on the host (macvlan, tun), and missing ones, are left out.
    """
    found = {}
    for endpoint in endpoints:
        seen = links.counters(home.netlink, ownership.veth_name(endpoint))
        if seen is not None:
            found[endpoint.interface] = _from_inside(seen)
    return found


def of_namespace(home: Home, namespace: int) -> dict[str, Counters]:
    """Return counters of all interfaces except lo in a *namespace* (a descriptor)."""
    with home.open_netlink(namespace) as there:
        return {name: seen for name, seen in links.each_counted(there) if name != "lo"}


def _from_inside(seen: Counters) -> Counters:
    """Swap directions: what one end sends the other receives."""
    return Counters(
        rx_packets=seen.tx_packets,
        tx_packets=seen.rx_packets,
        rx_bytes=seen.tx_bytes,
        tx_bytes=seen.rx_bytes,
        rx_errors=seen.tx_errors,
        tx_errors=seen.rx_errors,
        rx_dropped=seen.tx_dropped,
        tx_dropped=seen.rx_dropped,
    )
