"""What is said to the process that delivers a container's output.

First a Delivery; then datagrams, each HEAD and at most 16 KiB of output: whole lines
together, or a part of one.
"""

import struct
from typing import TypedDict

HEAD = struct.Struct(">BQ")  # index in STREAMS, nanoseconds since the epoch
STREAMS = ("stdout", "stderr")


class About(TypedDict):
    """What a driver says of the container."""

    id: str
    name: str
    image: str
    tag: str
    attributes: dict[str, str]  # labels and variables that options name


#: To try options with.
NOBODY: About = {"id": "", "name": "", "image": "", "tag": "", "attributes": {}}


class Delivery(TypedDict):
    """By which driver a container's output is delivered, and how."""

    driver: str
    options: dict[str, str]  # as the user wrote them
    about: About
    buffer: int  # bytes kept for a service that is slow; what is more is lost. 0: output waits
