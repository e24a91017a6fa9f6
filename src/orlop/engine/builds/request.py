"""What a build is asked for, and what it tells."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import msgspec

from orlop.engine.requests import Credentials
from orlop.model.container import Resources
from orlop.model.reference import Reference


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a build; the context comes apart from it."""

    dockerfile: str = "Dockerfile"  # its path in the context
    tags: tuple[Reference, ...] = ()
    arguments: dict[str, str] = {}
    labels: dict[str, str] = {}
    target: str = ""  # the stage that is wanted, by name or number; "" for the last
    no_cache: bool = False
    pull: bool = False  # ask the registry for each base image, even if it is here
    platform: str = ""
    network: str = "default"  # of RUN
    resources: Resources = Resources()
    shm_size_bytes: int = 64 << 20
    extra_hosts: tuple[str, ...] = ()
    cgroup_parent: str = ""
    credentials: Mapping[str, Credentials] = {}  # by registry
    secrets: Mapping[str, bytes] = {}  # by id; they reach no layer, log or key


class BuildEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a build tells its client."""

    kind: Literal["step", "cached", "output", "done", "notice"]
    number: int = 0  # of the step, from 1
    total: int = 0
    stage: str = ""  # name or number
    text: str = ""  # step: the instruction; cached and done: the layer
    data: bytes = b""  # output: what the command has written
    seconds: float = 0.0  # done: how long the step took
    why: str = ""  # done: why it was not in the cache


#: Takes an event, and returns when there is room for more.
Tell = Callable[[BuildEvent], Awaitable[None]]
