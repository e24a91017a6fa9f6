"""A namespace on a network that sandboxes have one after the other."""

from orlop.engine.networks.attachment import Place
from orlop.network.plugged import Plugged


class Lendable:
    """One of them, in whatever state."""

    def __init__(self, place: Place, plugged: Plugged) -> None:
        self.place = place
        self.plugged = plugged
        self.owner = ""  # who may have it again; "" for nobody
        self.sent: int | None = 0  # packets, before it was handed out
        self.since_s = 0.0  # it waits, in whatever state
        self.leased = True  # its address is ours to give back
