"""A namespace on a network that sandboxes have one after the other."""

from typing import NamedTuple

from orlop.engine.networks.attachment import Place
from orlop.model.container import Container
from orlop.model.network import EndpointOptions, Network
from orlop.network.options import NEIGHBOURS
from orlop.network.plugged import Plugged

_PLAIN = (EndpointOptions(), EndpointOptions(driver_options={NEIGHBOURS: "false"}))


class Kind(NamedTuple):
    """What a sandbox asks of one: all of a kind are alike."""

    network: str  # its id
    wanted: int = 0


def is_plain(wanted: EndpointOptions) -> bool:
    """Whether some can be made ahead for those who ask for this."""
    return wanted in _PLAIN


def kind_of(container: Container, network: Network) -> Kind:
    """Return the kind that a container is to have, whose options are plain."""
    return Kind(network.id, _PLAIN.index(container.options.networks[network.name]))


class Lendable:
    """One of them, in whatever state."""

    def __init__(self, kind: Kind, place: Place, plugged: Plugged) -> None:
        self.kind = kind
        self.place = place
        self.plugged = plugged
        self.owner = ""  # who may have it again; "" for nobody
        self.sent: int | None = 0  # packets, before it was handed out
        self.since_s = 0.0  # it waits, in whatever state
        self.leased = True  # its address is ours to give back
