"""The common part of drivers with a bridge on this host; each driver adds a few lines."""

from __future__ import annotations

from collections.abc import Collection

from orlop.kernel.netlink import links
from orlop.kernel.netlink.links import Port
from orlop.network import bridge_device, options, ownership, shaping, veth
from orlop.network.namespace import Home
from orlop.network.uplink import path_mtu

TYPE_CHECKING = False  # programs that start often pass plain values: network/cni/plugin
if TYPE_CHECKING:
    from orlop.model.network import Endpoint, Network


class Bridged:
    """A driver that connects containers to a bridge by veth pairs. *engine* is 8 hex digits."""

    name = "bridged"
    kinds: Collection[str] = ("bridge", "veth", "tun", "ifb")  # that it makes on the host

    def __init__(self, home: Home, engine: str) -> None:
        self.home = home
        self.engine = engine

    def check(self, network: Network) -> Network:
        """Return *network* with its bridge's name and its MTU filled in."""
        import msgspec

        for flag in (options.ICC, options.INHIBIT_IPV4):
            options.flag(network.options, flag, default=True)
        for flag in (options.METADATA, options.SPOOFING):
            options.flag(network.options, flag, default=False)
        ipv6 = bridge_device.has_ipv6(network)
        mtu = options.mtu(network.options, network.mtu, ipv6=ipv6) or path_mtu(self.home)
        name = options.interface_name(bridge_device.name_of(network))
        filled = {**network.options, options.BRIDGE_NAME: name}
        return msgspec.structs.replace(network, mtu=mtu, options=filled)

    def create(self, network: Network) -> None:
        bridge_device.ensure(self.home, self.engine, network)

    def remove(self, network: Network) -> None:
        bridge_device.remove(self.home, self.engine, network)

    def attach(self, network: Network, endpoint: Endpoint, namespace: int) -> None:
        """Attach by a veth pair; make the bridge again if somebody has removed it."""
        shaping.check(endpoint.bandwidth)
        veth.attach(self.home, self.engine, self.plug(network), endpoint, namespace)
        if endpoint.bandwidth.ingress_bps or endpoint.bandwidth.egress_bps:
            try:
                self.limit(network, endpoint)
            except BaseException:
                self.detach(network, endpoint, namespace)
                raise

    def detach(self, network: Network, endpoint: Endpoint, namespace: int | None) -> None:
        """Remove the pair, unless the container has ended: then its namespace removes it.

        If another process keeps that namespace, strays() lists what is left.
        """
        del network
        shaping.lift_sent(self.home, endpoint)
        if namespace is not None:
            veth.detach(self.home, self.engine, endpoint)

    def limit(self, network: Network, endpoint: Endpoint) -> None:
        del network
        shaping.limit(self.home, self.engine, endpoint)

    def strays(self, networks: Collection[Network], endpoints: Collection[Endpoint]) -> list[str]:
        """Return all our interfaces that belong to none of these networks and endpoints."""
        bridges = {network.id for network in networks}
        ends = {ownership.veth_name(endpoint) for endpoint in endpoints}
        ends |= {ownership.shaper_name(endpoint) for endpoint in endpoints}
        found = []
        for link in links.each(self.home.netlink):
            owner = ownership.owned_by(self.engine, link.alias)
            if owner is None or link.kind not in self.kinds:
                continue
            known = owner in bridges or link.name in ends
            if not known:
                found.append(link.name)
        return found

    def plug(self, network: Network) -> veth.Socket:
        """Return how an interface of the host becomes part of the network."""
        return veth.Socket(self._bridge(network), network.mtu, self.port(network))

    def port(self, network: Network) -> Port:
        """Return how the bridge treats the containers' ports."""
        apart = not options.flag(network.options, options.ICC, default=True)
        # If rules see bridged frames, they may send one back to where it came from.
        rewritten = self.home.sysctl.read("bridge/bridge-nf-call-iptables") == "1"
        return Port(isolated=apart or None, hairpin=rewritten or None)

    def _bridge(self, network: Network) -> int:
        index = bridge_device.find(self.home, self.engine, network)
        if index is None:
            self.create(network)
            index = bridge_device.ensure(self.home, self.engine, network)
        return index
