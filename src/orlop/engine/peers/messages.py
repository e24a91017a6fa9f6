"""The messages between connected engines, and their limits.

Fetch             ->                       from a host that wants to join, instead of a Hello
                  <-  Config               then the connection ends
Hello             <->  Hello               first, from both
Members, State    <->  Members, State      everything that each knows; State in parts
Change            ->                       an endpoint was added or removed
Ask               ->
                  <-  Gift or Refused      Gift: repeated after a lost connection, until Taken
Taken             ->
Ping              ->  Pong                 Pong: everything before it is stored
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator

import msgspec

from orlop.errors import CorruptError
from orlop.model.network import Network, Subnet
from orlop.model.overlay import HostEndpoint, Member

MOST_MEMBERS = 256
MOST_ENDPOINTS = 4096  # of one member
MOST_FRAME_BYTES = 256 << 10
_PART_BYTES = 64 << 10
_MOST_ADDRESSES, _MOST_ALIASES, _MOST_NAME_CHARS = 16, 32, 255

_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")  # of one station, not of a group
_ID = re.compile(r"[0-9a-f]{16}")


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=False):
    """One message; unknown fields are from a later version."""


class Fetch(Message, frozen=True, kw_only=True):
    pass


class Config(Message, frozen=True, kw_only=True):
    network: Network
    member: Member


class Hello(Message, frozen=True, kw_only=True):
    member: Member
    instance: str  # changes with each start of the engine


class Members(Message, frozen=True, kw_only=True):
    members: tuple[Member, ...]


class State(Message, frozen=True, kw_only=True):
    endpoints: tuple[HostEndpoint, ...]
    has_more: bool = False


class Change(Message, frozen=True, kw_only=True):
    put: tuple[HostEndpoint, ...] = ()
    drop: tuple[str, ...] = ()  # MAC addresses


class Ask(Message, frozen=True, kw_only=True):
    number: int
    subnet: str  # addresses of this one
    address: str = ""  # exactly this one


class Gift(Message, frozen=True, kw_only=True):
    number: int
    range: str
    answers: int = 0  # the number of the Ask


class Refused(Message, frozen=True, kw_only=True):
    answers: int


class Taken(Message, frozen=True, kw_only=True):
    number: int


class Ping(Message, frozen=True, kw_only=True):
    number: int


class Pong(Message, frozen=True, kw_only=True):
    number: int


AnyMessage = (
    Fetch | Config | Hello | Members | State | Change | Ask | Gift | Refused | Taken | Ping | Pong
)

encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AnyMessage).decode


def decode(data: bytes) -> AnyMessage:
    """Return a peer's message, with its values checked; CorruptError if it is invalid."""
    try:
        message: AnyMessage = _decode(data)
        _check(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptError(f"a peer's message is not understood: {str(error)[:200]}") from None
    return message


def parts(endpoints: Iterable[HostEndpoint]) -> Iterator[State]:
    """Yield all *endpoints* in messages of limited length; the last one is marked."""
    part: list[HostEndpoint] = []
    size = 0
    for endpoint in endpoints:
        length = len(encode(endpoint))
        if part and size + length > _PART_BYTES:
            yield State(endpoints=tuple(part), has_more=True)
            part, size = [], 0
        part.append(endpoint)
        size += length
    yield State(endpoints=tuple(part))


def _check(message: AnyMessage) -> None:
    match message:
        case Hello(member=member):
            _check_members((member,))
        case Config(member=member, network=network):
            _check_members((member,))
            for subnet in network.subnets:
                _check_subnet(subnet)
        case Members(members=members):
            _check_members(members)
        case State(endpoints=endpoints) | Change(put=endpoints):
            for endpoint in endpoints:
                _check_endpoint(endpoint)
        case Ask(subnet=subnet, address=address):
            _check_range(subnet)
            _check_address(address or "::")
        case Gift(range=given):
            _check_range(given)


def _check_members(members: tuple[Member, ...]) -> None:
    if len(members) > MOST_MEMBERS:
        raise ValueError("too many members")
    for member in members:
        _check_member(member)


def _check_address(text: str) -> None:
    """Refuse a zone (fe80::1%eth0): it is another host's, and may be any text, used in rules."""
    ipaddress.ip_address("" if "%" in text else text)


def _check_range(text: str) -> None:
    ipaddress.ip_network("" if "%" in text else text)


def _check_subnet(subnet: Subnet) -> None:
    _check_range(subnet.subnet)
    if subnet.ip_range:
        _check_range(subnet.ip_range)
    for address in (subnet.gateway, *subnet.reserved.values()):
        if address:
            _check_address(address)


def _check_member(member: Member) -> None:
    _check_address(member.address)
    if not _ID.fullmatch(member.id) or not 0 < member.port < 65536:
        raise ValueError("a member's id or port")
    if len(member.name) > _MOST_NAME_CHARS or not 0 < member.version < 1 << 62:
        raise ValueError("a member's name or version")
    if len(member.received) > 4 * MOST_MEMBERS:
        raise ValueError("a member's gifts")


def _check_endpoint(endpoint: HostEndpoint) -> None:
    if not _MAC.fullmatch(endpoint.mac) or endpoint.mac == "00:00:00:00:00:00":
        raise ValueError("an endpoint's MAC address")
    if len(endpoint.addresses) > _MOST_ADDRESSES or len(endpoint.aliases) > _MOST_ALIASES:
        raise ValueError("too many addresses or aliases")
    for address in endpoint.addresses:
        _check_address(address)
    names = (endpoint.container, endpoint.name, *endpoint.aliases)
    if any(len(name) > _MOST_NAME_CHARS for name in names):
        raise ValueError("a name is too long")
