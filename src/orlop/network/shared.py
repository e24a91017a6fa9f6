"""Addresses of a subnet shared by several hosts: each host allocates from its own ranges."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from orlop.errors import AlreadyExistsError
from orlop.model.network import Subnet
from orlop.network.ipam import Addresses


class SharedAddresses(Addresses):
    """Like Addresses, but nothing is allocated before own() sets the ranges."""

    def __init__(self, subnet: Subnet) -> None:
        super().__init__(subnet)
        self._spans: list[tuple[int, int]] = []

    def own(self, ranges: Iterable[str]) -> None:
        """Allocate only from these *ranges* from now on; addresses in use stay in use."""
        self._spans = []
        for text in ranges:
            part = ip_network(text)
            if part.version == self.whole.version:
                first = max(self._first, int(part.network_address))
                last = min(self._last, int(part.broadcast_address))
                self._spans.append((first, last))

    def take(self) -> str | None:
        """Allocate the lowest free address of the first range with one; None if there is none."""
        number = self._free()
        if number is None:
            return None
        self._used.add(number)
        return self._text(number)

    def claim(self, address: str) -> None:
        """Allocate this address; AlreadyExistsError also if it is in another host's range."""
        if not self._owns(address):
            raise AlreadyExistsError(
                f"address {address} is another host's to give",
                hint="it may be in use there, or that host cannot be reached",
            )
        super().claim(address)

    def adopt(self, address: str) -> None:
        """Mark an address that is in use already, whatever range it is in."""
        super().claim(address)

    def can_give(self, address: str = "") -> bool:
        """Whether there is a free address, or whether *address* is in our ranges."""
        return self._owns(address) if address else self._free() is not None

    def _owns(self, address: str) -> bool:
        number = int(ip_address(address))
        return any(first <= number <= last for first, last in self._spans)

    def _free(self) -> int | None:
        for first, last in self._spans:
            number = first
            while number <= last:
                if number not in self._used and number not in self._kept:
                    return number
                number += 1
        return None
