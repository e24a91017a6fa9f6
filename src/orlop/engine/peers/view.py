"""The endpoints on other hosts, and the resulting state for the tunnel."""

import ipaddress
from collections.abc import Iterable

from orlop.engine.peers.messages import MOST_ENDPOINTS, Change, State
from orlop.errors import CorruptError
from orlop.model.overlay import HostEndpoint, Member, Neighbour, Peering


class View:
    """Endpoints by member and MAC; a local endpoint takes precedence over another host's."""

    def __init__(self, subnets: Iterable[str]) -> None:
        self._subnets = [ipaddress.ip_network(subnet) for subnet in subnets]
        self.local: dict[str, HostEndpoint] = {}
        self._remote: dict[str, dict[str, HostEndpoint]] = {}
        self._coming: dict[str, dict[str, HostEndpoint]] = {}  # incomplete States

    def begin(self, member: str) -> None:
        """Expect the whole state of *member*; the old one is valid until it is complete."""
        self._coming[member] = {}

    def state(self, member: str, message: State) -> bool:
        """Add a part; True once it is complete."""
        coming = self._coming.setdefault(member, {})
        self._put(coming, message.endpoints)
        if message.has_more:
            return False
        self._remote[member] = self._coming.pop(member)
        return True

    def change(self, member: str, message: Change) -> None:
        known = self._remote.setdefault(member, {})
        for mac in message.drop:
            known.pop(mac, None)
        self._put(known, message.put)

    def forget(self, member: str) -> None:
        self._remote.pop(member, None)
        self._coming.pop(member, None)

    def has_heard(self, member: str) -> bool:
        """Whether its whole state has arrived since we started."""
        return member in self._remote

    def count(self, member: str) -> int:
        return len(self._remote.get(member, ()))

    def peering(
        self, members: Iterable[Member], expired: Iterable[str], *, is_whole: bool
    ) -> Peering:
        """Return the current state for the tunnel."""
        known = sorted(members, key=lambda member: member.id)
        gone = set(expired)
        here = [member for member in known if member.id not in gone]
        return Peering(
            members=tuple(sorted({member.address for member in known})),
            replicate=tuple(sorted({member.address for member in here})),
            neighbours=tuple(self._neighbours(here)),
            local=tuple(self.local[mac] for mac in sorted(self.local)),
            is_whole=is_whole,
        )

    def _neighbours(self, members: Iterable[Member]) -> Iterable[Neighbour]:
        macs = set(self.local)
        used = {address for one in self.local.values() for address in one.addresses}
        for member in members:
            for endpoint in self._remote.get(member.id, {}).values():
                if endpoint.mac in macs:
                    continue
                macs.add(endpoint.mac)
                addresses = tuple(
                    a for a in endpoint.addresses if a not in used and self._is_ours(a)
                )
                used.update(addresses)
                yield Neighbour(
                    mac=endpoint.mac,
                    vtep=member.address,
                    addresses=addresses,
                    container=endpoint.container,
                    name=endpoint.name,
                    aliases=endpoint.aliases,
                )

    def _is_ours(self, text: str) -> bool:
        address = ipaddress.ip_address(text)
        return any(address in subnet for subnet in self._subnets)

    def _put(self, known: dict[str, HostEndpoint], more: Iterable[HostEndpoint]) -> None:
        for endpoint in more:
            known[endpoint.mac] = endpoint
        if len(known) > MOST_ENDPOINTS:
            raise CorruptError("a peer has more endpoints than a host can have")
