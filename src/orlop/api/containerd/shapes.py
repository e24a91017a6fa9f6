"""Values that several services have: moments, descriptors."""

from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from orlop.api.containerd import v1
from orlop.errors import InvalidArgumentError
from orlop.model.clients import Typed
from orlop.model.digest import parse_digest
from orlop.model.image import Descriptor

_SECOND_NS = 1_000_000_000


def moment(time_ns: int) -> dict[str, int]:
    """Return the Timestamp of a time in nanoseconds since the epoch."""
    return {"seconds": time_ns // _SECOND_NS, "nanos": time_ns % _SECOND_NS}


def typed(given: AnyMessage) -> Typed:
    """Return a value whose type only clients know."""
    return Typed(type_url=given.type_url, value=given.value)


def shown_any(value: Typed) -> Any:
    """Return *value* for a field that is an Any."""
    return {"type_url": value.type_url, "value": value.value}


def parse_descriptor(given: v1.Descriptor) -> Descriptor:
    """Return the descriptor in a request; InvalidArgumentError."""
    if given.size < 0:
        raise InvalidArgumentError(f"a blob cannot have {given.size} bytes")
    return Descriptor(
        media_type=given.media_type,
        digest=parse_digest(given.digest),
        size=given.size,
        annotations=dict(given.annotations),
    )


def descriptor(value: Descriptor) -> v1.Descriptor:
    """Return *value* as a message."""
    return v1.Descriptor(
        media_type=value.media_type,
        digest=value.digest,
        size=value.size,
        annotations=value.annotations,
    )
