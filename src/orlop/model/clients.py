"""What containerd's clients keep in namespaces, as it is stored. Times are ns since the epoch."""

from typing import Literal

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value stored as JSON; a field added later needs a default."""


class Resource(Value, frozen=True):
    """What a lease protects: *type* is "content", "ingests" or "snapshots/DRIVER"."""

    id: str
    type: str


class Lease(Value, frozen=True):
    """A client's lease: nothing that it names is collected."""

    created_ns: int
    labels: dict[str, str] = {}
    resources: tuple[Resource, ...] = ()
    expires_ns: int = 0  # 0 for never


class Blob(Value, frozen=True):
    """What a namespace knows of a blob. The blob itself is the engine's."""

    created_ns: int
    updated_ns: int
    labels: dict[str, str] = {}


class Ingest(Value, frozen=True):
    """A blob that a client has begun to write."""

    started_ns: int
    updated_ns: int
    total: int = 0  # bytes that are to come; 0 if that is not known
    expected: str = ""  # digest, if it is known


class Snapshot(Value, frozen=True):
    """A client's snapshot: layers and, unless it is committed, a writable snapshot of a driver."""

    kind: Literal["active", "view", "committed"]
    parent: str  # key of a committed one; "" for none
    layers: tuple[str, ...]  # bottom first
    created_ns: int
    updated_ns: int
    labels: dict[str, str] = {}
    name: str = ""  # the driver's
    place: str = ""  # the folder for writes, by which a request's mounts are known


class Typed(Value, frozen=True):
    """A value whose type only clients know: protobuf's Any."""

    type_url: str
    value: bytes


class Task(Value, frozen=True):
    """What runs a client's container: a container of the engine, and named pipes of the client."""

    id: str
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


class ClientContainer(Value, frozen=True):
    """A client's container: how a task is to be made, and nothing that runs."""

    created_ns: int
    updated_ns: int
    labels: dict[str, str] = {}
    image: str = ""
    runtime: str = ""
    runtime_options: Typed | None = None
    spec: Typed | None = None
    snapshotter: str = ""
    snapshot_key: str = ""
    extensions: dict[str, Typed] = {}
    sandbox: str = ""
    task: Task | None = None
