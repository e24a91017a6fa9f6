"""When sandboxes end, for an engine that comes after this one too, whatever the clock is set to.

The clock's time is kept beside that of the machine, which nobody sets and which a boot begins
anew: the former counts only after a boot.
"""

import time
from typing import NamedTuple

from orlop.snapshots.shelf import boot


class Deadline(NamedTuple):
    """A moment; none if *expires_ns* is 0."""

    expires_ns: int = 0  # of the clock
    expires_boot: str = ""  # which boot, ":", and nanoseconds of clock_gettime(2)'s CLOCK_BOOTTIME

    def left_s(self) -> float:
        """Return the seconds until then."""
        name, _, moment = self.expires_boot.partition(":")
        if moment and name == boot():
            return (int(moment) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1e9
        return (self.expires_ns - time.time_ns()) / 1e9


def after(seconds: float) -> Deadline:
    """Return the moment in so many seconds."""
    span_ns = round(seconds * 1e9)
    moment = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + span_ns
    return Deadline(time.time_ns() + span_ns, f"{boot()}:{moment}")
