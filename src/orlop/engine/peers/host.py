"""What peers need of the rest of the engine."""

from collections.abc import Collection, Sequence
from typing import Protocol

from orlop.model.network import Network
from orlop.model.overlay import Membership, Peering


class Host(Protocol):
    """This host's networks. `taken` and `own` are called in one step of the event loop."""

    def taken(self, network: str) -> Collection[str]:
        """Return the addresses in use here: containers', the bridge's own, reserved ones."""

    def own(self, network: str, owned: tuple[str, ...]) -> None:
        """From now on give addresses of these ranges only."""

    async def apply(self, network: str, peering: Peering) -> None:
        """Have the tunnel know this, as soon as there is one."""

    async def check(self, network: Network) -> Network:
        """Return another host's network as it would be here; the driver's errors if it cannot."""

    async def adopt(self, network: Network) -> None:
        """Make another host's network one of ours; AlreadyExistsError if its name is taken."""


class Store(Protocol):
    """Where memberships are kept. What returned is there after a power failure too."""

    def put(self, membership: Membership) -> None: ...

    def remove(self, me: str) -> None: ...

    def list(self) -> Sequence[Membership]: ...
