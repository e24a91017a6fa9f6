"""Networks over several hosts: members, their endpoints, and a driver's input.

Membership is stored as JSON; messages between hosts are in engine/peers/messages.py.
"""

import msgspec

from orlop.model.network import Value


class Member(Value, frozen=True, kw_only=True):
    """One host's membership in one network. A host that joins again is another member."""

    id: str  # 16 hex digits, chosen when it joined
    address: str  # of its tunnel endpoint, and where its engine listens
    port: int  # TCP, of its engine
    name: str = ""  # its host name
    version: int = 1  # raised by the member itself at each change
    left: bool = False  # final
    received: dict[str, int] = msgspec.field(
        default_factory=dict
    )  # of one that has left: the last gift it took, by giver


class HostEndpoint(Value, frozen=True, kw_only=True):
    """An endpoint here as other hosts know it: a container's, or the bridge's own."""

    mac: str
    addresses: tuple[str, ...] = ()  # without prefixes
    container: str = ""  # the start of its id
    name: str = ""
    aliases: tuple[str, ...] = ()


class Gift(Value, frozen=True, kw_only=True):
    """A range of addresses on its way to another member; it is no longer ours."""

    to: str
    number: int  # counted by giver and taker, so that no gift counts twice
    range: str


class Membership(Value, frozen=True, kw_only=True):
    """Everything that a host has to remember about a network that it shares."""

    network: str
    secret: str  # 64 hex digits
    me: str  # a member's id
    status: str = "member"  # "joining", "member" or "leaving"
    members: dict[str, Member] = msgspec.field(default_factory=dict)  # this host too
    owned: tuple[str, ...] = ()  # ranges that this host allocates from
    gifts: tuple[Gift, ...] = ()  # not yet confirmed
    given: dict[str, int] = msgspec.field(
        default_factory=dict
    )  # the last number of a gift, by taker
    received: dict[str, int] = msgspec.field(
        default_factory=dict
    )  # the last number of a gift taken, by giver


class Neighbour(Value, frozen=True, kw_only=True):
    """An endpoint on another host, and the tunnel's address there."""

    mac: str
    vtep: str
    addresses: tuple[str, ...] = ()
    container: str = ""
    name: str = ""
    aliases: tuple[str, ...] = ()


class Peering(Value, frozen=True, kw_only=True):
    """The current state for a tunnel: derived, never stored."""

    members: tuple[str, ...] = ()  # hosts whose packets are accepted
    replicate: tuple[str, ...] = ()  # hosts that get frames without a known destination
    neighbours: tuple[Neighbour, ...] = ()
    local: tuple[HostEndpoint, ...] = ()  # endpoints here, which nobody elsewhere may pass for
    is_whole: bool = True  # False after a start, until all members have been heard: remove nothing
