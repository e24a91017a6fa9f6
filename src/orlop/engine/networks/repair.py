"""Restore what somebody removes while we run: rules (`nft flush ruleset`), bridges."""

import asyncio
import logging
from typing import TYPE_CHECKING

from orlop.engine.context import Context
from orlop.engine.networks.attachments import Attachments
from orlop.engine.networks.host import Host
from orlop.errors import OrlopError

if TYPE_CHECKING:
    from orlop.network.firewall.watch import Watch

log = logging.getLogger(__name__)

_SETTLE_S = 0.2  # because a reload of a firewall makes many changes


class Repair:
    """Listens from begin() to close(). Each change by anybody costs a check."""

    def __init__(self, context: Context, attachments: Attachments) -> None:
        self._context = context
        self._attachments = attachments
        self._watch: Watch | None = None
        self._host: Host | None = None

    def begin(self, host: Host) -> None:
        """Start listening; called in the event loop, once the network thread has its host."""
        if self._watch is None:
            self._host, self._watch = host, host.watch()
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._heard)

    def close(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def _heard(self) -> None:
        assert self._watch is not None
        assert self._host is not None
        changes = self._watch.changes(self._host.bridges())
        if changes.rules or changes.bridges:
            log.warning("network changed by others", extra={"bridges": sorted(changes.bridges)})
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._context.spawn(self._restore(set(changes.bridges), rules=changes.rules))

    async def _restore(self, bridges: set[str], *, rules: bool) -> None:
        """Restore after the changes have ended, and listen again."""
        if rules:
            await self._attachments.hold()
        await asyncio.sleep(_SETTLE_S)
        if self._watch is None or self._host is None:
            return
        more = self._watch.changes(self._host.bridges())
        try:
            await self._attachments.restore(bridges | more.bridges, rules=rules or more.rules)
        except (OSError, OrlopError) as error:
            log.warning("the network cannot be put right", extra={"why": str(error)})
        finally:
            if self._watch is not None:
                asyncio.get_running_loop().add_reader(self._watch.fileno(), self._heard)
