"""The state of one shared network: stored first, then used."""

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from orlop.engine.peers.host import Store
from orlop.engine.threads import in_thread
from orlop.model.overlay import Membership


class Books:
    def __init__(self, membership: Membership, store: Store) -> None:
        self.membership = membership
        self.lock = asyncio.Lock()  # held from reading the membership to its change
        self._store = store
        self._news = asyncio.Condition()

    async def commit(self, after: Membership) -> None:
        """Store a change, then use it. The caller holds the lock."""
        if after is not self.membership:
            await in_thread(self._store.put, after)
            self.membership = after

    async def settle(self, status: str) -> None:
        """Store that this host is now a "member", or "leaving"."""
        async with self.lock:
            await self.commit(replace(self.membership, status=status))

    async def remove(self) -> None:
        await in_thread(self._store.remove, self.membership.me)

    async def notify(self) -> None:
        """Wake the waiters: something has changed, here or in the links."""
        async with self._news:
            self._news.notify_all()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with self._news:
            await self._news.wait_for(is_so)
