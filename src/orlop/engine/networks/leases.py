"""The addresses in use: exactly those of the endpoints in the containers' records."""

from contextlib import suppress

from orlop.engine.context import Context
from orlop.errors import AlreadyExistsError, ExhaustedError, InvalidArgumentError
from orlop.model.network import Endpoint, EndpointOptions, Network
from orlop.network.ipam import Addresses, parse_address
from orlop.network.shared import SharedAddresses


class Leases:
    """Kept in memory, by network; computed from the records when first needed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._networks: dict[str, list[Addresses]] = {}
        self._owned: dict[str, tuple[str, ...]] = {}  # for networks shared with other hosts

    def take(self, network: Network, wanted: EndpointOptions) -> tuple[str, ...]:
        """Allocate one address of each family that the network has; all of them, or none.

        Returns interface addresses. Errors are Docker's: "Address already in use",
        "no available IPv4 addresses on this network's address pools: …".
        """
        taken: list[str] = []
        try:
            for version, address in ((4, wanted.ipv4), (6, wanted.ipv6)):
                if found := self._take_one(network, version, address):
                    taken.append(found)
        except BaseException:
            self.release(network.id, tuple(taken))
            raise
        return tuple(taken)

    def _take_one(self, network: Network, version: int, wanted: str) -> str:
        subnets = [one for one in self._of(network) if one.whole.version == version]
        if wanted:
            return _claim(subnets, wanted, version)
        for addresses in subnets:
            if (free := addresses.take()) is not None:
                return f"{free}/{addresses.whole.prefixlen}"
        if subnets:
            raise ExhaustedError(
                f"no available IPv{version} addresses on this network's address pools:"
                f" {network.name} ({network.id})",
                hint="end containers that are on it, or make another network",
            )
        return ""

    def release(self, network_id: str, addresses: tuple[str, ...]) -> None:
        """Release interface addresses; those that are not in use are no error."""
        for text in addresses:
            address = text.partition("/")[0]
            for subnet in self._networks.get(network_id, ()):
                if address in subnet:
                    subnet.release(address)

    def release_endpoint(self, endpoint: Endpoint) -> None:
        self.release(endpoint.network, endpoint.addresses)

    def in_use(self, network: Network) -> int:
        """Return the number of addresses that containers have."""
        return sum(len(addresses) for addresses in self._of(network))

    def taken(self, network: Network) -> list[str]:
        """Return the addresses that cannot be allocated: in use, or reserved."""
        return [address for subnet in self._of(network) for address in subnet.taken()]

    def own(self, network_id: str, owned: tuple[str, ...]) -> None:
        """Allocate only from these ranges, for a network shared with other hosts."""
        self._owned[network_id] = owned
        for subnet in self._networks.get(network_id, ()):
            if isinstance(subnet, SharedAddresses):
                subnet.own(owned)

    def can_take(self, network: Network, version: int, wanted: str) -> bool:
        """Whether an address, or this one, can be allocated without asking other hosts."""
        subnets = [one for one in self._of(network) if one.whole.version == version]
        shared = [one for one in subnets if isinstance(one, SharedAddresses)]
        return not shared or any(one.can_give(wanted) for one in shared)

    def forget(self, network_id: str) -> None:
        """Drop the state of a network that is removed, or has other subnets."""
        self._networks.pop(network_id, None)
        self._owned.pop(network_id, None)

    def _of(self, network: Network) -> list[Addresses]:
        if network.id not in self._networks:
            is_shared = network.driver == "vxlan"
            kind = SharedAddresses if is_shared else Addresses
            self._networks[network.id] = [kind(one) for one in network.subnets]
            if is_shared:
                self.own(network.id, self._owned.get(network.id, ()))
            for container in self._context.records.all_with_pods():
                for endpoint in container.endpoints:
                    if endpoint.network == network.id:
                        self._adopt(endpoint)
        return self._networks[network.id]

    def _adopt(self, endpoint: Endpoint) -> None:
        for text in endpoint.addresses:
            address = text.partition("/")[0]
            for subnet in self._networks[endpoint.network]:
                if address in subnet:
                    claim = subnet.claim
                    if isinstance(subnet, SharedAddresses):
                        claim = subnet.adopt
                    with suppress(AlreadyExistsError):
                        claim(address)


def _claim(subnets: list[Addresses], wanted: str, version: int) -> str:
    address = parse_address(wanted, f"IPv{version} address")
    if address.version != version:
        raise InvalidArgumentError(f"invalid IPv{version} address: {wanted}")
    for subnet in subnets:
        if address in subnet.whole:
            subnet.claim(str(address))
            return f"{address}/{subnet.whole.prefixlen}"
    raise InvalidArgumentError(
        "invalid endpoint settings: no configured subnet or ip-range contain the IP address"
        f" {address}"
    )
