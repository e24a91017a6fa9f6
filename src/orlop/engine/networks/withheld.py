"""Tell in the log which private addresses of listed names stay closed, and what opens them.

Who owns a name, and who asks for it, decides what is told: so it is told seldom.
"""

import logging
import time
from collections.abc import Callable, Iterable

from orlop.network.egress.learned import Withheld

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_AGAIN_S = 3600.0  # before the same address of the same name is told again
_MOST = 256  # that are remembered


class Report:
    """For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = -_EVERY_S
        self._told: dict[Withheld, float] = {}  # when, the earliest first

    def of(self, container: str, found: Iterable[Withheld]) -> None:
        """Log those that *container* has just been kept from, unless that was done lately."""
        now = self._clock()
        new = [one for one in found if self._told.get(one, -_AGAIN_S) <= now - _AGAIN_S]
        if not new or now - self._last < _EVERY_S:
            return
        self._last = now
        for one in new:
            self._told.pop(one, None)
            self._told[one] = now
        for one in list(self._told)[:-_MOST]:
            del self._told[one]
        more = {
            "container": container,
            "entry": new[0].name,
            "hint": f"if it is meant, list too: {' '.join(one.address for one in new)}",
        }
        log.warning("a listed name leads to a private address, which stays closed", extra=more)
