"""Move addresses between hosts: request, give, and hand on when leaving."""

import asyncio

from orlop.engine.peers import membership as steps
from orlop.engine.peers import messages, ranges
from orlop.engine.peers.books import Books
from orlop.engine.peers.host import Host
from orlop.engine.peers.links import Link, Links, Timing
from orlop.errors import CorruptError
from orlop.model.network import Network
from orlop.model.overlay import Gift

AddressMessage = messages.Ask | messages.Gift | messages.Refused | messages.Taken


class Exchange:
    """This host's side; membership.py explains why no address is ever given twice."""

    def __init__(
        self, books: Books, links: Links, *, network: Network, host: Host, timing: Timing
    ) -> None:
        self._books, self._links = books, links
        self._network, self._host, self._timing = network, host, timing
        self._asks: dict[int, asyncio.Future[bool]] = {}
        self._number = 0

    async def heard(self, link: Link, message: AddressMessage) -> None:
        match message:
            case messages.Ask():
                await self._asked(link, message)
            case messages.Gift():
                await self._gifted(link, message)
            case messages.Refused(answers=number):
                self._answer(number, got=False)
            case messages.Taken(number=number):
                async with self._books.lock:
                    membership = self._books.membership
                    await self._books.commit(steps.confirmed(membership, link.member, number))
                await self._books.notify()

    async def _asked(self, link: Link, ask: messages.Ask) -> None:
        async with self._books.lock:
            gift = await self._give(link.member, ask)
        if gift is None:
            link.send(messages.Refused(answers=ask.number))
        else:
            link.send(messages.Gift(number=gift.number, range=gift.range, answers=ask.number))

    async def _give(self, to: str, ask: messages.Ask) -> Gift | None:
        """Give a range away, if one is free; from then on it is not allocated here."""
        membership, network = self._books.membership, self._network
        subnets = [subnet.subnet for subnet in network.subnets]
        if membership.status != "member" or ask.subnet not in subnets:
            return None
        taken = self._host.taken(network.id)
        if ask.address:
            given = ranges.single(membership.owned, ask.address, taken)
        else:
            given = ranges.share(membership.owned, ask.subnet, taken)
        if given is None:
            return None
        after, gift = steps.giving(membership, to, given)
        self._host.own(network.id, after.owned)
        try:
            await self._books.commit(after)
        except BaseException:
            self._host.own(network.id, membership.owned)
            raise
        return gift

    async def _gifted(self, link: Link, gift: messages.Gift) -> None:
        async with self._books.lock:
            membership = self._books.membership
            if membership.status == "leaving":
                return
            after = steps.accepting(membership, link.member, gift.number, gift.range)
            if after is not None:
                if not any(
                    ranges.within((gift.range,), subnet.subnet) for subnet in self._network.subnets
                ) or ranges.overlaps(membership.owned, gift.range):
                    raise CorruptError(f"a peer gives {gift.range}, which it cannot have")
                await self._books.commit(after)
                self._host.own(self._network.id, after.owned)
        link.send(messages.Taken(number=gift.number))
        self._answer(gift.answers, got=True)

    # Our requests

    async def ask(self, subnet: str, address: str = "") -> bool:
        """Ask the members for more addresses of *subnet*, or for one *address*."""
        for link in self._links:
            self._number += 1
            number = self._number
            answer = self._asks[number] = asyncio.get_running_loop().create_future()
            try:
                link.send(messages.Ask(number=number, subnet=subnet, address=address))
                async with asyncio.timeout(self._timing.answer_s):
                    if await answer:
                        return True
            except TimeoutError:
                continue
            finally:
                del self._asks[number]
        return False

    def _answer(self, number: int, *, got: bool) -> None:
        future = self._asks.get(number)
        if future is not None and not future.done():
            future.set_result(got)

    async def connected(self) -> None:
        """Wait until a member is connected."""
        await self._books.until(lambda: len(self._links) > 0)

    async def part(self) -> None:
        """Give all addresses away, leave, and forget the network; waits for a member."""
        while any(True for _ in steps.others(self._books.membership)):
            await self.connected()
            link = next(iter(self._links), None)
            if link is not None and await self._part_over(link):
                break
        await self._books.remove()

    async def _part_over(self, link: Link) -> bool:
        """Whether all our ranges have a new owner, and the others know that we have left."""
        books = self._books
        async with books.lock:
            for owned in books.membership.owned:
                after, gift = steps.giving(books.membership, link.member, owned)
                await books.commit(after)
                link.send(messages.Gift(number=gift.number, range=gift.range))
        await books.until(lambda: not books.membership.gifts or link.closed.is_set())
        if books.membership.gifts:
            return False
        self._links.send(messages.Members(members=(steps.parting(books.membership),)))
        self._number += 1
        number = self._number
        link.send(messages.Ping(number=number))
        # The peer closes the connection after storing that we left, which confirms it too.
        await books.until(lambda: link.pongs >= number or link.closed.is_set())
        return True
