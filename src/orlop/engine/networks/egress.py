"""Egress lists of containers: which containers may have one, and their guarded outlets.

Attaching a container only needs `Guards.apply` and `Guards.withdraw`.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from orlop.engine.networks.attachment import Attachment
from orlop.engine.networks.withheld import Report
from orlop.errors import InvalidArgumentError, UnavailableError
from orlop.kernel.netlink import links
from orlop.kernel.nftables import Nftables
from orlop.model.container import ContainerOptions
from orlop.model.egress import parse
from orlop.model.network import Network
from orlop.network import ownership, veth
from orlop.network.bridge_device import name_of
from orlop.network.egress.egress import Egress
from orlop.network.egress.learned import Found
from orlop.network.egress.outlet import Outlet
from orlop.network.namespace import Home

_DRIVER = "bridge"


def check_network(options: ContainerOptions, network: Network) -> None:
    """Raise InvalidArgumentError if a container with a list cannot be on *network*."""
    if options.egress is not None and network.driver != _DRIVER:
        raise InvalidArgumentError(
            f"an egress list does not go with network {network.name}, whose driver is"
            f" {network.driver}",
            hint="with bridge, or a network of that driver",
        )


class Guards:
    """For the network thread; *nft* is the connection of the engine's own changes."""

    def __init__(self, home: Home, nft: Nftables, table: str) -> None:
        self._home = home
        self._egress = Egress(nft, f"{table}-egress")
        self._report = Report()
        self._unknown: list[Attachment] = []  # failed in reconcile: older rules still hold them

    def apply(self, attachment: Attachment) -> None:
        """Apply the container's list, if it has one, before its interfaces exist.

        UnavailableError if a bridge is missing.
        """
        if attachment.egress is not None:
            if self._unknown:  # new rules would release them
                self.reconcile(self._unknown)
            outlets = list(self._outlets(attachment))
            self._prepare({one.bridge for one in outlets})
            self._egress.guard(outlets)

    def withdraw(self, attachment: Attachment) -> None:
        """Remove a container, or some of its endpoints: they can send nothing any more."""
        if attachment.egress is not None:
            ended = attachment.container
            self._unknown = [one for one in self._unknown if one.container != ended]
            self._egress.release([ownership.veth_name(one) for _, one in attachment.places])

    def open(self, container: str, found: Sequence[Found]) -> None:
        """Open, for a while, the addresses that a name of a container's list resolved to."""
        self._report.of(container, self._egress.learn(container, found))

    def restore(self) -> None:
        """Restore the rules, after somebody has changed them."""
        self._egress.restore()
        self._prepare(self._egress.bridges())

    def reconcile(self, used: Iterable[Attachment]) -> None:
        """Apply the lists of exactly these containers."""
        self._unknown = [one for one in used if one.egress is not None]
        outlets = [outlet for one in self._unknown for outlet in self._outlets(one)]
        self._egress.reconcile(outlets)
        self._unknown = []
        self._prepare(self._egress.bridges())

    def tidy(self) -> None:
        """Remove the rules if no container has a list any more."""
        for interface in self._egress.leaving():  # otherwise it would be free for a moment
            veth.remove(self._home, interface)
        self._egress.tidy()

    def _prepare(self, bridges: Collection[str]) -> None:
        """Make the host route between containers of one bridge.

        It must send no ICMP redirects about the shorter path: they use up the rate limit for
        its refusals. *all* matters only for interfaces that have it off, too.
        """
        if bridges:
            self._home.sysctl.apply([("ipv4/conf/all/send_redirects", "0")])
        for bridge in bridges:
            of_it = (("send_redirects", "0"), ("forwarding", "1"))
            self._home.sysctl.apply((f"ipv4/conf/{bridge}/{key}", value) for key, value in of_it)

    def _outlets(self, attachment: Attachment) -> Iterator[Outlet]:
        destinations = tuple(map(parse, attachment.egress or ()))
        for network, endpoint in attachment.places:
            bridge = links.find(self._home.netlink, name_of(network))
            if bridge is None:
                raise UnavailableError(f"network {network.name} has lost its bridge")
            yield Outlet(
                container=attachment.container,
                interface=ownership.veth_name(endpoint),
                bridge=bridge.name,
                bridge_mac=bridge.mac,
                mac=endpoint.mac,
                addresses=tuple(one.partition("/")[0] for one in endpoint.addresses),
                subnets=tuple(one.subnet for one in network.subnets),
                destinations=destinations,
            )
