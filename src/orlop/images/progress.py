"""The progress of a transfer."""

import enum
from collections.abc import Callable

from orlop.model.digest import Digest


class Kind(enum.StrEnum):
    """What is happening to a blob."""

    EXISTS = "exists"  # nothing to do
    DOWNLOAD = "download"
    UPLOAD = "upload"
    MOUNT = "mount"  # mounted from another repository of the same registry
    LOAD = "load"
    UNPACK = "unpack"


#: Called as progress(digest, kind, bytes_done, bytes_total), from any thread, often.
Progress = Callable[[Digest, Kind, int, int], None]


def silent(digest: Digest, kind: Kind, done: int, total: int, /) -> None:
    """Ignore the progress."""
