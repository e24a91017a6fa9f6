"""Times in logs."""

import time


def stamp(time_ns: int) -> str:
    """Return the UTC time with all nine digits, so that text sorts as time does."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"
