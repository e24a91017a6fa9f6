"""The use cases of networks, loaded when the first of them is asked for."""

import secrets
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_network

from msgspec.structs import replace

from orlop.engine.containers.bundle import Bundles
from orlop.engine.context import Context
from orlop.engine.identity import label
from orlop.engine.networks import egress, links, modes
from orlop.engine.networks.attachments import Attachments
from orlop.engine.networks.directory import Directory
from orlop.engine.networks.filters import prunable
from orlop.engine.networks.host import Host
from orlop.engine.networks.lending import Lending
from orlop.engine.networks.planning import standing_in
from orlop.engine.networks.repair import Repair
from orlop.engine.networks.thread import NetworkThread
from orlop.engine.requests import Filters, NetworkRequest
from orlop.engine.settled import settled
from orlop.errors import (
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    PermissionDeniedError,
)
from orlop.model.container import Container, ContainerOptions
from orlop.model.network import Endpoint, EndpointOptions, Network, Subnet
from orlop.network import ipam, options
from orlop.network.routed import routed_subnets

_SHARED = ("host", "null", "none")  # drivers of which there is one network each


class Desk:
    def __init__(self, context: Context, bundles: Bundles) -> None:
        self._context = context
        self.directory = Directory(context)
        self._thread = NetworkThread(self._host, lambda host: self._repair.begin(host))
        self.attachments = Attachments(context, bundles, self.directory, self._thread)
        self.lending = Lending(context, self.directory, self.attachments)
        self._repair = Repair(context, self.attachments)

    def _host(self) -> Host:
        self._context.settings.network_mark.touch(0o600)
        settings = self._context.settings
        return Host(label(settings.root), settings.run, self._context.lacks)

    def attached(self, network: Network) -> list[tuple[Container, Endpoint]]:
        """Return the running containers on it, each with its endpoint there."""
        running = [one for one in self._context.records.all_with_pods() if one.running]
        if network.driver in _SHARED:
            users = (one for one in running if one.options.network == network.name)
            return [(container, standing_in(container, network)) for container in users]
        return [
            (container, endpoint)
            for container in running
            for endpoint in container.endpoints
            if endpoint.network == network.id
        ]

    def check(self, wanted: ContainerOptions) -> ContainerOptions:
        """Raise what is wrong with the networks that a container is to be on; return their names.

        The mode stays as it was said: a network's name, or its id.
        """
        if not self._thread.started:
            self._thread.post(Host.settle)  # so that it is there when the container starts
        try:
            named = self._named(wanted.networks)
        except NotFoundError as error:  # which a client would take for the image, and pull it
            raise InvalidArgumentError(str(error)) from None
        for name in named:
            egress.check_network(wanted, self.directory.named(name))
        return replace(wanted, networks=named)

    def _named(self, wanted: Mapping[str, EndpointOptions]) -> dict[str, EndpointOptions]:
        """Return what is wanted of networks by their names."""
        plain = EndpointOptions()
        named: dict[str, EndpointOptions] = {}
        for ref, asked in wanted.items():
            network = self.directory.find(ref)
            if network.driver in _SHARED:
                raise modes.conflict(network.name)
            if plain not in (asked, named.get(network.name, plain)):
                raise InvalidArgumentError(f"network {network.name} is there twice")
            _check_static(network, asked)
            if network.name == modes.DEFAULT:  # on others links are names, for later
                asked = self._by_id(asked)
            named[network.name] = asked if asked != plain else named.get(network.name, plain)
        return named

    def _by_id(self, wanted: EndpointOptions) -> EndpointOptions:
        """Return *wanted* with the ids of linked containers: names can change."""
        linked = []
        for alias, ref in map(links.parse, wanted.links):
            try:
                linked.append(f"{self._context.records.find(ref).id}:{alias}")
            except NotFoundError as error:
                raise NotFoundError(f"could not get container for {ref[:200]}: {error}") from None
        return replace(wanted, links=tuple(linked))

    async def create(self, request: NetworkRequest) -> tuple[Network, Sequence[str]]:
        if request.name in modes.PREDEFINED:
            raise PermissionDeniedError(
                f"operation is not permitted on predefined {request.name} network"
            )
        if not modes.is_name(request.name):
            raise InvalidArgumentError(
                f"invalid network name {request.name[:200]!r}",
                hint="letters, digits, and after the first of them also _ . -",
            )
        if request.driver in _SHARED:
            raise PermissionDeniedError(
                f'only one instance of "{request.driver}" network is allowed'
            )
        self.directory.check_name(request.name)
        subnets = [ipam.checked(subnet) for subnet in request.subnets]
        network = Network(
            id=secrets.token_hex(32),
            name=request.name,
            driver=request.driver or "bridge",
            created_ns=time.time_ns(),
            internal=request.internal,
            attachable=request.attachable,
            ipv4=request.ipv4,
            ipv6=request.ipv6 or any(":" in subnet.subnet for subnet in subnets),
            ipam_options=request.ipam_options,
            options=request.options,
            labels=request.labels,
        )
        network = await self._thread.call(Host.check, network)
        # Nothing suspends from here on: what is free now is ours when it is stored.
        self.directory.check_name(request.name)
        self._check_bridge(network)
        network = replace(network, subnets=self._subnets(network, subnets))
        self.directory.put(network)
        await self.attachments.overlay.found(network)
        self._announce(network, "create")
        return network, ()

    def _check_bridge(self, network: Network) -> None:
        """Raise, in Docker's words, if another network has the bridge."""
        bridge = network.options.get(options.BRIDGE_NAME)
        for other in self.directory.all():
            if bridge and other.options.get(options.BRIDGE_NAME) == bridge:
                raise PermissionDeniedError(
                    f"cannot create network {network.id} ({bridge}): conflicts with network"
                    f" {other.id} ({bridge}): networks have same bridge name"
                )

    async def join(self, token: str, address: str) -> Network:
        network = await self.attachments.overlay.join(token, address)
        self._announce(network, "create")
        return network

    def _subnets(self, network: Network, given: Sequence[Subnet]) -> tuple[Subnet, ...]:
        """Return *given* with gateways, and one more of each family that lacks one."""
        taken = self.directory.subnets()
        subnets: list[Subnet] = []
        for subnet in given:
            ipam.check_free(subnet.subnet, [*taken, *(one.subnet for one in subnets)])
            subnets.append(subnet)
        families = {6 if ":" in subnet.subnet else 4 for subnet in subnets}
        if network.ipv4 and 4 not in families:
            routed = routed_subnets()
            subnets.insert(0, Subnet(subnet=ipam.choose_ipv4([*taken, *routed])))
        if network.ipv6 and 6 not in families:
            site = bytes.fromhex(label(self._context.settings.root))
            chosen = ipam.choose_ipv6([*taken, *routed_subnets()], site)
            subnets.append(Subnet(subnet=chosen))
        if not subnets:
            raise InvalidArgumentError(
                f"network {network.name} has neither IPv4 nor IPv6", hint="leave out --ipv4=false"
            )
        return tuple(ipam.with_gateway(subnet) for subnet in subnets)

    async def remove(self, network: Network) -> None:
        if network.name in modes.PREDEFINED:
            raise PermissionDeniedError(
                f"{network.name} is a pre-defined network and cannot be removed"
            )
        await self._check_unused(network)
        self.directory.hide(network)  # nobody gets on it while its devices go
        self.attachments.ready.forget([network.id])
        try:
            await self._thread.call(Host.remove, network)
        except BaseException:
            self.directory.put(network)
            raise
        self.directory.remove(network)
        await self.attachments.overlay.leave(network)
        self.attachments.leases.forget(network.id)
        self._announce(network, "destroy")

    async def _check_unused(self, network: Network) -> None:
        for container, _ in self.attached(network):
            await settled(self._context, container)
        users = [
            f'name:"{container.name}" id:"{endpoint.id[:12]}"'
            for container in self._context.records.all_with_pods()
            for endpoint in container.endpoints
            if endpoint.network == network.id
        ]
        if users:
            raise PermissionDeniedError(
                f"error while removing network: network {network.name} has active endpoints"
                f" ({', '.join(users[:20])})",
                hint="disconnect or stop them first",
            )

    async def prune(self, filters: Filters) -> list[str]:
        removed = []
        for network in prunable(self.directory.all(), filters):
            try:
                await self.remove(network)
            except OrlopError:  # it is in use, or is going already
                continue
            removed.append(network.name)
        self._context.events.publish("network", "prune", id="", attributes={"reclaimed": "0"})
        return removed

    async def connect(
        self, network: Network, container: Container, wanted: EndpointOptions
    ) -> None:
        _check_connectable(network, container)
        _check_static(network, wanted)
        if network.name == modes.DEFAULT:
            wanted = self._by_id(wanted)
        async with self._context.live(container.id).lock:
            container = self._context.records.get(container.id)
            network = self.directory.find(network.id)  # it may have been removed meanwhile
            egress.check_network(container.options, network)
            if network.name in container.options.networks:
                raise PermissionDeniedError(
                    f"endpoint with name {container.name} already exists in network {network.name}"
                )
            if container.running:
                await self.attachments.connect(network, container, wanted)
            else:
                networks = {**container.options.networks, network.name: wanted}
                self._save_networks(container, networks)

    async def disconnect(self, network: Network, container_ref: str) -> None:
        container = self._context.records.find(container_ref)
        _check_connectable(network, container)
        container = await settled(self._context, container)
        async with self._context.live(container.id).lock:
            container = self._context.records.get(container.id)
            if network.name not in container.options.networks:
                raise PermissionDeniedError(
                    f"container {container.id} is not connected to network {network.name}"
                )
            if container.running and any(e.network == network.id for e in container.endpoints):
                await self.attachments.disconnect(network, container)
            else:
                networks = dict(container.options.networks)
                del networks[network.name]
                self._save_networks(container, networks)

    def _save_networks(self, container: Container, networks: dict[str, EndpointOptions]) -> None:
        changed = replace(container.options, networks=networks)
        self._context.records.save(replace(container, options=changed))

    async def reconcile(self) -> None:
        """Put right what an engine before us left."""
        await self.attachments.reconcile()

    async def close(self) -> None:
        self._repair.close()
        await self.attachments.close()

    def _announce(self, network: Network, action: str) -> None:
        attributes = {"name": network.name, "type": network.driver}
        self._context.events.publish("network", action, id=network.id, attributes=attributes)


def _check_connectable(network: Network, container: Container) -> None:
    if network.driver in _SHARED:
        raise modes.conflict(network.name)
    mode = container.options.network
    if not modes.names_network(mode):
        raise modes.conflict(mode)


def _check_static(network: Network, wanted: EndpointOptions) -> None:
    """Raise what is wrong with addresses that a user chose, as far as it is known already."""
    if network.name == modes.DEFAULT and (wanted.ipv4 or wanted.ipv6):
        raise InvalidArgumentError(
            "invalid config for network bridge: invalid endpoint settings: "
            "user specified IP address is supported on user defined networks only"
        )
    if network.name == modes.DEFAULT and wanted.aliases:
        raise InvalidArgumentError(
            "invalid config for network bridge: invalid endpoint settings: "
            "network-scoped aliases are only supported for user-defined networks"
        )
    for version, address in ((4, wanted.ipv4), (6, wanted.ipv6)):
        if not address:
            continue
        parsed = ipam.parse_address(address, f"IPv{version} address")
        inside = any(parsed in ip_network(subnet.subnet) for subnet in network.subnets)
        if parsed.version != version or not inside:
            raise InvalidArgumentError(
                f"invalid config for network {network.name}: invalid endpoint settings: "
                f"no configured subnet or ip-range contain the IP address {address}"
            )
