"""What --network can say, and of which networks a container is then."""

import re

from msgspec.structs import replace

from orlop.errors import InvalidArgumentError
from orlop.model.container import ContainerOptions
from orlop.model.network import EndpointOptions

DEFAULT = "bridge"
#: There from the beginning; nobody can make or remove them.
PREDEFINED = (DEFAULT, "host", "none")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_OWN = frozenset(("", "none", "private"))  # a namespace with nothing but a loopback
_PREFIXES = ("container:", "ns:", "pod:")


def names_network(mode: str) -> bool:
    """Whether *mode* is the name of a network, and not what kind of namespace there is to be."""
    return mode not in _OWN and mode != "host" and not mode.startswith(_PREFIXES)


def is_name(text: str) -> bool:
    """Whether a network may be called so."""
    return bool(_NAME.fullmatch(text)) and names_network(text)


def has_own_namespace(mode: str) -> bool:
    """Whether the container has a network namespace for itself."""
    return mode != "host" and not mode.startswith(_PREFIXES)


def resolved(options: ContainerOptions) -> ContainerOptions:
    """Return a request's *options* with the mode spelled out, and every network among `networks`.

    InvalidArgumentError for networks that a mode does not go with.
    """
    mode = "none" if options.network_disabled else options.network
    mode = DEFAULT if mode == "default" else mode
    wanted = dict(options.networks)
    if "default" in wanted:
        wanted[DEFAULT] = wanted.pop("default")
    if names_network(mode):
        own = wanted.pop(mode, EndpointOptions())
        wanted = {mode: own, **wanted}
    else:
        wanted.pop(mode, None)
        if wanted:
            raise conflict(mode)
    for name in wanted:
        if not names_network(name):
            raise conflict(name)
    return replace(options, network=mode, networks=wanted)


def check_egress(options: ContainerOptions) -> None:
    """Raise InvalidArgumentError for a list that cannot be, or that nothing could be held to."""
    if options.egress is None:
        return
    from orlop.model.egress import parse_all  # few containers have one

    parse_all(options.egress)
    if not names_network(options.network):
        raise InvalidArgumentError(
            f"an egress list does not go with the network {options.network[:200] or 'none'}",
            hint="with bridge, or a network of that driver",
        )


def conflict(mode: str) -> InvalidArgumentError:
    """Return the error, in Docker's words, of a network that goes with no other."""
    if mode == "host":
        return InvalidArgumentError(
            "container cannot be disconnected from host network or connected to host network"
        )
    if mode.startswith(_PREFIXES):
        return InvalidArgumentError(
            "container sharing network namespace with another container or host cannot be"
            " connected to any other network"
        )
    return InvalidArgumentError(
        "container cannot be connected to multiple networks with one of the networks in"
        " private (none) mode"
    )
