"""All networks, by name, id or the start of an id; read when first needed."""

import secrets
import time
from functools import cached_property

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.networks import modes
from orlop.engine.settings import DEFAULT_ROOT
from orlop.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from orlop.model.network import Network, Subnet
from orlop.network import ipam, options
from orlop.network.bridge_device import name_of
from orlop.network.routed import routed_subnets

_BRIDGE = "com.docker.network.bridge."


class Directory:
    """Every change is stored before it is visible."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stored = context.metadata.networks

    @cached_property
    def _by_id(self) -> dict[str, Network]:
        found = {network.id: network for network in self._stored.list()}
        names = {network.name for network in found.values()}
        for name in modes.PREDEFINED:
            if name not in names:
                network = self._predefined(name, list(found.values()))
                self._stored.put(network)
                found[network.id] = network
        return found

    def all(self) -> list[Network]:
        return list(self._by_id.values())

    def get(self, network_id: str) -> Network | None:
        return self._by_id.get(network_id)

    def named(self, name: str) -> Network:
        """Return the network with this name; NotFoundError, in Docker's words, if there is none."""
        network = self._by_name(name)
        if network is None:
            raise NotFoundError(f"network {name[:200]} not found")
        return network

    def _by_name(self, name: str) -> Network | None:
        return next((one for one in self._by_id.values() if one.name == name), None)

    def find(self, ref: str) -> Network:
        """Return the network with the id or name *ref*, or the only one whose id starts so."""
        if ref in self._by_id:
            return self._by_id[ref]
        if (named := self._by_name(ref)) is not None:
            return named
        found = [network for id_, network in self._by_id.items() if ref and id_.startswith(ref)]
        if not found:
            raise NotFoundError(f"network {ref[:200]} not found")
        if len(found) > 1:
            raise InvalidArgumentError(
                f"network {ref} is ambiguous ({len(found)} matches found based on ID prefix)"
            )
        return found[0]

    def check_name(self, name: str) -> None:
        """Raise AlreadyExistsError if a network has *name*."""
        if self._by_name(name) is not None:
            raise AlreadyExistsError(f"network with name {name} already exists")

    def put(self, network: Network) -> None:
        """Store a new network, or a change."""
        self._stored.put(network)
        self._by_id[network.id] = network

    def hide(self, network: Network) -> None:
        """Hide it while it is removed; put() makes it visible again."""
        self._by_id.pop(network.id, None)

    def remove(self, network: Network) -> None:
        self._stored.remove(network.id)
        self._by_id.pop(network.id, None)

    def subnets(self) -> list[str]:
        """Return the subnets of all networks."""
        return [subnet.subnet for network in self.all() for subnet in network.subnets]

    def with_devices(self) -> list[Network]:
        """Return the networks whose drivers make devices on the host."""
        return [network for network in self.all() if network.name not in ("host", "none")]

    def avoid_clash(self, network: Network) -> bool:
        """Choose another subnet for the default network if the host has a route to its own.

        Only while no container is on it. Return whether it was changed.
        """
        routed = routed_subnets(without=name_of(network))
        if not ipam.clashes((one.subnet for one in network.subnets), routed):
            return False
        others = [s.subnet for n in self.all() if n.id != network.id for s in n.subnets]
        subnet = ipam.choose_ipv4([*others, *routed])
        self.put(replace(network, subnets=(ipam.with_gateway(Subnet(subnet=subnet)),)))
        return True

    def _predefined(self, name: str, others: list[Network]) -> Network:
        network = Network(
            id=secrets.token_hex(32),
            name=name,
            driver="null" if name == "none" else name,
            created_ns=time.time_ns(),
        )
        if name != "bridge":
            return network
        taken = [subnet.subnet for other in others for subnet in other.subnets]
        subnet = ipam.choose_ipv4([*taken, *routed_subnets()])
        usual = self._context.settings.root == DEFAULT_ROOT
        return replace(
            network,
            subnets=(ipam.with_gateway(Subnet(subnet=subnet)),),
            options={
                f"{_BRIDGE}default_bridge": "true",
                options.ICC: "true",
                options.MASQUERADE: "true",
                f"{_BRIDGE}host_binding_ipv4": "0.0.0.0",
                options.BRIDGE_NAME: "orlop0" if usual else f"or-{network.id[:12]}",
                options.MTU: "1500",
            },
        )
