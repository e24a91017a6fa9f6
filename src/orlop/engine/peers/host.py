"""The interface of the rest of the engine for the peers."""

from collections.abc import Collection, Sequence
from typing import Protocol

from orlop.model.network import Network
from orlop.model.overlay import Membership, Peering


class Host(Protocol):
    """This host's networks. `taken` and `own` are called in one step of the event loop."""

    def taken(self, network: str) -> Collection[str]:
        """Return the addresses in use here: containers', the bridge's own, reserved ones."""

    def own(self, network: str, owned: tuple[str, ...]) -> None:
        """Allocate only from these ranges from now on."""

    async def apply(self, network: str, peering: Peering) -> None:
        """Pass this state to the tunnel, as soon as there is one."""

    async def check(self, network: Network) -> Network:
        """Return another host's network as it would be here, or raise the driver's error."""

    async def adopt(self, network: Network) -> None:
        """Add another host's network to ours; AlreadyExistsError if its name is taken."""


class Store(Protocol):
    """The storage of memberships. Changes survive a power failure."""

    def put(self, membership: Membership) -> None: ...

    def remove(self, me: str) -> None: ...

    def list(self) -> Sequence[Membership]: ...
