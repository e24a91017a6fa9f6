"""The changes of a membership. Pure: the caller stores each before acting on it.

Addresses move as gifts. A giver first stores that a range is no longer its own, then sends it,
again after each lost connection, until the taker confirms that it has stored it. Gifts are
numbered for each pair, so a repeated one counts once. Whatever is lost, disconnected or killed
in between: a range has one owner, or is on its way to one.
"""

import secrets
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from orlop.engine.peers import ranges
from orlop.engine.peers.messages import MOST_MEMBERS
from orlop.model.network import Network
from orlop.model.overlay import Gift, Member, Membership

_MOST_LEFT = 4 * MOST_MEMBERS  # remembered, so that an old message cannot bring them back


def founded(network: Network, member: Member) -> Membership:
    """Return the membership of the first host: every address is its own."""
    return Membership(
        network=network.id,
        secret=secrets.token_hex(32),
        me=member.id,
        members={member.id: member},
        owned=tuple(subnet.ip_range or subnet.subnet for subnet in network.subnets),
    )


def new_id() -> str:
    return secrets.token_hex(8)


def others(membership: Membership) -> Iterator[Member]:
    """Yield the other members that have not left."""
    for member in membership.members.values():
        if member.id != membership.me and not member.left:
            yield member


def merged(membership: Membership, heard: Iterable[Member]) -> Membership:
    """Return it with another member's news; itself if there are none.

    Gifts that a member never took before it left are ours again.
    """
    members = dict(membership.members)
    changed = False
    for member in heard:
        known = members.get(member.id)
        if member.id == membership.me or (known is not None and known.left):
            continue
        if known is None and _is_full(members, left=member.left):
            continue
        if known is None or member.left or member.version > known.version:
            members[member.id] = member
            changed = True
            if member.left:
                membership = _restored(membership, member)
    return replace(membership, members=members) if changed else membership


def _is_full(members: dict[str, Member], *, left: bool) -> bool:
    count = sum(member.left == left for member in members.values())
    return count >= (_MOST_LEFT if left else MOST_MEMBERS)


def _restored(membership: Membership, gone: Member) -> Membership:
    took = gone.received.get(membership.me, 0)
    mine = [gift for gift in membership.gifts if gift.to == gone.id]
    back = [gift.range for gift in mine if gift.number > took]
    return replace(
        membership,
        owned=ranges.joined(membership.owned, back),
        gifts=tuple(gift for gift in membership.gifts if gift not in mine),
    )


def giving(membership: Membership, to: str, given: str) -> tuple[Membership, Gift]:
    """Return it without the range *given*, and the gift to send."""
    number = membership.given.get(to, 0) + 1
    gift = Gift(to=to, number=number, range=given)
    after = replace(
        membership,
        owned=ranges.without(membership.owned, given),
        gifts=(*membership.gifts, gift),
        given={**membership.given, to: number},
    )
    return after, gift


def confirmed(membership: Membership, by: str, number: int) -> Membership:
    """Return it without the gifts up to *number*: the taker has stored them."""
    left = tuple(g for g in membership.gifts if g.to != by or g.number > number)
    return membership if left == membership.gifts else replace(membership, gifts=left)


def accepting(membership: Membership, giver: str, number: int, given: str) -> Membership | None:
    """Return it with a gift; None for one that was taken before."""
    if number <= membership.received.get(giver, 0):
        return None
    return replace(
        membership,
        owned=ranges.joined(membership.owned, (given,)),
        received={**membership.received, giver: number},
    )


def parting(membership: Membership) -> Member:
    """Return the announcement that this host has left, which then takes no more gifts."""
    me = membership.members[membership.me]
    return replace(me, version=me.version + 1, left=True, received=membership.received)


def moved(membership: Membership, address: str, port: int) -> Membership:
    """Return it with another address for this host."""
    me = membership.members[membership.me]
    if (me.address, me.port) == (address, port):
        return membership
    me = replace(me, address=address, port=port, version=me.version + 1)
    return replace(membership, members={**membership.members, me.id: me})
