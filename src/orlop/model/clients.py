"""What containerd's clients keep in namespaces, as it is stored. Times are ns since the epoch."""

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
