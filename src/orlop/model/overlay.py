"""Networks over several hosts: who is a member, what each has, and what a driver is told.

Membership is stored as JSON; what goes between hosts is in engine/peers/messages.py.
"""

import msgspec

from orlop.model.network import Value


class Member(Value, frozen=True, kw_only=True):
    """One host's part in one network. A host that joins anew is another member."""

    id: str  # 16 hex digits, chosen when it joined
    address: str  # of its tunnel endpoint, and where its engine listens
    port: int  # TCP, of its engine
    name: str = ""  # its host name
    version: int = 1  # raised by the member itself at each change
    left: bool = False  # for ever
    received: dict[str, int] = msgspec.field(
        default_factory=dict
    )  # of one that has left: the last gift it took, by giver


class HostEndpoint(Value, frozen=True, kw_only=True):
    """What the other hosts know of an endpoint here: a container's, or the bridge's own."""

    mac: str
    addresses: tuple[str, ...] = ()  # without prefixes
    container: str = ""  # the start of its id
    name: str = ""
    aliases: tuple[str, ...] = ()


class Gift(Value, frozen=True, kw_only=True):
    """A range of addresses on its way to another member; it is no longer ours."""

    to: str
    number: int  # counted by giver and taker, so that none counts twice
    range: str


class Membership(Value, frozen=True, kw_only=True):
    """All that a host has to remember of a network that it shares."""

    network: str
    secret: str  # 64 hex digits
    me: str  # a member's id
    status: str = "member"  # "joining", "member" or "leaving"
    members: dict[str, Member] = msgspec.field(default_factory=dict)  # this host too
    owned: tuple[str, ...] = ()  # ranges that this host gives addresses from
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
    """What a tunnel should know now: derived, never stored."""

    members: tuple[str, ...] = ()  # whose packets are let in
    replicate: tuple[str, ...] = ()  # who is sent what has no known destination
    neighbours: tuple[Neighbour, ...] = ()
    is_whole: bool = True  # False after a start, until all have been heard: remove nothing yet
