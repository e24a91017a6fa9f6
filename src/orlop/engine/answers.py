"""What the engine answers, where a value of model/ does not say it."""

from collections.abc import Callable

import msgspec

from orlop.model.container import Container, Volume
from orlop.model.image import Descriptor, ImageConfig
from orlop.model.platform import Platform


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in nanoseconds since the epoch, unless the name says otherwise."""


class Progress(Answer, frozen=True, kw_only=True):
    """One step of a pull, push, load: the words of *status* are Docker's."""

    status: str
    id: str = ""  # short digest of the layer, or ""
    current: int = 0
    total: int = 0


ProgressCallback = Callable[[Progress], None]


class ImageRecord(Answer, frozen=True, kw_only=True):
    """An image that is here: its id is the digest of its configuration; `host` is built in."""

    id: str
    manifest: Descriptor | None  # what registries call it; None: built in
    config: ImageConfig
    layers: tuple[str, ...] = ()  # LayerKeys, bottom first
    tags: tuple[str, ...] = ()  # familiar: "alpine:3.22"
    digests: tuple[str, ...] = ()  # familiar: "alpine@sha256:…"
    created_ns: int = 0
    tagged_ns: int = 0
    size: int = 0  # of its layers on this machine
    parent: str = ""  # id of the image it was committed from
    comment: str = ""


class ImageSummary(Answer, frozen=True, kw_only=True):
    image: ImageRecord
    containers: int = -1  # how many use it; -1: not counted
    shared_size: int = -1


class Distribution(Answer, frozen=True, kw_only=True):
    """What a registry has under a name, and for which platforms."""

    descriptor: Descriptor
    platforms: tuple[Platform, ...] = ()


class HistoryStep(Answer, frozen=True, kw_only=True):
    id: str  # image id, or "<missing>"
    created_ns: int
    created_by: str
    size: int
    comment: str
    tags: tuple[str, ...] = ()


class Deleted(Answer, frozen=True, kw_only=True):
    """One of the two is set."""

    untagged: str = ""
    deleted: str = ""


class Pruned(Answer, frozen=True, kw_only=True):
    names: tuple[str, ...] = ()
    images: tuple[Deleted, ...] = ()
    reclaimed: int = 0


class Created(Answer, frozen=True, kw_only=True):
    id: str
    warnings: tuple[str, ...] = ()


class Finished(Answer, frozen=True, kw_only=True):
    exit_code: int
    error: str = ""


class ContainerSize(Answer, frozen=True, kw_only=True):
    writable: int
    total: int


class LogEntry(Answer, frozen=True, kw_only=True):
    stream: str  # stdout, stderr
    time_ns: int
    text: bytes  # with its newline, if it had one
    attributes: dict[str, str] = {}  # that log options asked for


class Processes(Answer, frozen=True, kw_only=True):
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class PathStat(Answer, frozen=True, kw_only=True):
    name: str
    size: int
    mode: int  # st_mode
    mtime_ns: int
    link_target: str = ""


class Change(Answer, frozen=True, kw_only=True):
    kind: str  # A, C, D
    path: str


class CacheItem(Answer, frozen=True, kw_only=True):
    """Something that the cache of builds keeps: a step's layer, or the folder of a mount."""

    key: str
    what: str
    size: int
    created_ns: int = 0
    used_ns: int = 0
    uses: int = 0
    shared: bool = False  # an image has this layer
    is_mount: bool = False


class DiskUsage(Answer, frozen=True, kw_only=True):
    layers: int  # all layers on this machine
    unused_layers: int  # those of them that no container uses
    images: tuple[ImageSummary, ...] = ()
    containers: tuple[tuple[Container, ContainerSize], ...] = ()
    volumes: tuple[tuple[Volume, int, int], ...] = ()  # with its size and number of users
    cache: tuple[CacheItem, ...] = ()


class VolumeAnswer(Answer, frozen=True, kw_only=True):
    volume: Volume
    mountpoint: str
    size: int = -1  # -1: not measured
    users: int = -1


class Protection(Answer, frozen=True, kw_only=True):
    """One thing that protects containers or the host: "on", "partly", "off" or "missing"."""

    name: str
    state: str
    detail: str


class Info(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    containers: int
    running: int
    paused: int
    stopped: int
    images: int
    driver: str
    root: str
    kernel: str
    operating_system: str
    architecture: str
    cpus: int
    memory: int
    cgroup_version: str
    cgroup_driver: str
    security: tuple[str, ...]
    protections: tuple[Protection, ...]
    labels: tuple[str, ...]
    warnings: tuple[str, ...]
    time_ns: int
    subscribers: int
