"""The connections of one network: one to each other member."""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from orlop.engine.peers.channel import Channel
from orlop.engine.peers.messages import AnyMessage
from orlop.errors import UnavailableError


class Timing(NamedTuple):
    """The timeouts between hosts."""

    ping_s: float = 5.0
    silent_s: float = 15.0  # after so long without a message a connection is closed
    forget_s: float = 60.0  # after so long without an answer nothing is sent to a host
    redial_s: float = 0.25  # doubled at each attempt …
    slowest_redial_s: float = 5.0  # … up to this
    answer_s: float = 5.0


class Link:
    """A connection to one member."""

    def __init__(self, member: str, instance: str, *, dialer: str, channel: Channel) -> None:
        self.member, self.instance, self.dialer = member, instance, dialer
        self.channel = channel
        self.closed = asyncio.Event()
        self.pongs = 0  # the number of the last one

    def send(self, message: AnyMessage) -> None:
        """Send it, or close the link if that fails."""
        try:
            self.channel.send(message)
        except UnavailableError:
            self.channel.close()


class Links:
    """At most one link to each member, whoever dialed first."""

    def __init__(self) -> None:
        self._by_member: dict[str, Link] = {}

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._by_member.values()))

    def __len__(self) -> int:
        return len(self._by_member)

    def __contains__(self, member: str) -> bool:
        return member in self._by_member

    def get(self, member: str) -> Link | None:
        return self._by_member.get(member)

    def admit(self, link: Link) -> bool:
        """Keep *link*, and close the one it replaces; False if the other one is kept.

        Two members that dial each other at once both keep the connection of the lower id.
        After a restart the old connection is not used any more.
        """
        before = self._by_member.get(link.member)
        if before is not None:
            is_same_run = before.instance == link.instance
            if is_same_run and before.dialer < link.dialer:
                return False
            before.channel.close()
        self._by_member[link.member] = link
        return True

    def leave(self, link: Link) -> None:
        if self._by_member.get(link.member) is link:
            del self._by_member[link.member]
        link.channel.close()
        link.closed.set()

    def send(self, message: AnyMessage, *, but: str = "") -> None:
        """Send *message* to all members, except *but*."""
        for link in self:
            if link.member != but:
                link.send(message)
