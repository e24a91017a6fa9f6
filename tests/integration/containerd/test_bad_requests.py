"""Every method of the API, with requests that make no sense: they get a clear answer."""

import random
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from orlop.api.containerd import v1
from orlop.api.containerd.app import path_of
from orlop.api.protobuf import message_class
from tests.integration.containerd.conftest import Ctr
from tests.integration.engines import EngineProcess

_EACH = 8  # requests of a method
_TEXTS = (
    *(
        "",
        "a",
        "default",
        "../../etc/passwd",
        "/etc/passwd",
        "/",
        "\0",
        "a" * 5000,
        "ü",
        "a b",
        "%n",
    ),
    *("sha256:" + "0" * 64, "sha256:../x", "labels.a", "labels", "target", "overlayfs", "name==a"),
    *("name~=(a+)+$", "/tmp", "binary:///bin/sh", "{", "docker.io/library/busybox:test"),
)
_VALUES = (b"", b"{}", b"[]", b"null", b'{"process": {"args": ["a"]}}', b"[" * 5000, b"\xff")
#: What a request may be answered with: no internal error, nothing without a reason.
_ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,  # of Subscribe and Wait
}
_METHODS = [method for one in v1.DESCRIPTOR.services_by_name.values() for method in one.methods]


def made(descriptor: Descriptor, chance: random.Random, depth: int = 3) -> Message:
    """Return a message with values that are wrong, or right by accident."""
    message = message_class(descriptor)()
    for field in descriptor.fields:
        if chance.random() < 0.3:
            continue
        many = _repeats(field)
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        for _ in range(chance.randint(0, 2) if many else 1):
            _fill(message, field, chance, depth, is_map=is_map)
    return message


def _fill(
    message: Any, field: FieldDescriptor, chance: random.Random, depth: int, *, is_map: bool
) -> None:
    if field.message_type is not None:
        if depth == 0:
            return
        if is_map:
            key, kind = chance.choice(_TEXTS[:8]), field.message_type.fields_by_name["value"]
            if kind.message_type is not None:
                getattr(message, field.name)[key].CopyFrom(
                    made(kind.message_type, chance, depth - 1)
                )
            else:
                getattr(message, field.name)[key] = chance.choice(_TEXTS)
            return
        child = made(field.message_type, chance, depth - 1)
        held = getattr(message, field.name)
        held.append(child) if _repeats(field) else held.CopyFrom(child)
        return
    value = _value(field, chance)
    if _repeats(field):
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _repeats(field: FieldDescriptor) -> bool:
    either: Any = field  # later versions of the library have no `label`, earlier ones only that
    if hasattr(either, "is_repeated"):
        return bool(either.is_repeated)
    return bool(either.label == either.LABEL_REPEATED)


def _value(field: FieldDescriptor, chance: random.Random) -> object:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        return chance.choice(_VALUES) if is_bytes else chance.choice(_TEXTS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return chance.randint(0, 3)
    signed = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
    most = 31 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 62
    return chance.choice((0, 1, 9, (1 << most) - 1, -1 if signed else 3))


@pytest.fixture(scope="module")
def channel(engine: EngineProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"unix:{engine.run / 'containerd.sock'}") as made_channel:
        yield made_channel


@pytest.mark.parametrize("method", _METHODS, ids=lambda one: one.full_name.split("v1.")[-1])
def test_a_senseless_request_is_answered(channel: grpc.Channel, method: Any) -> None:
    chance = random.Random(method.full_name)  # the same at each run
    path = path_of(f"/{method.containing_service.full_name}/{method.name}")
    ways = {(False, False): "unary_unary", (False, True): "unary_stream"}
    way = ways.get((method.client_streaming, method.server_streaming), "stream_stream")
    call = getattr(channel, way)(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=bytes,
    )
    for number in range(_EACH):
        asked = made(method.input_type, chance)
        name = "fuzz" if number else "../fuzz"
        headers = (("containerd-namespace", name), ("containerd-lease", chance.choice(("", "x"))))
        given = iter([asked]) if method.client_streaming else asked
        code, details = grpc.StatusCode.OK, ""
        try:
            answer = call(given, metadata=headers, timeout=0.5)
            if method.server_streaming:
                next(answer, None)
                answer.cancel()
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
        assert code in _ALLOWED, (str(asked)[:500], details)
        assert len(details) < 2000
        assert "/usr/" not in details


def test_the_engine_still_works(engine: EngineProcess, ctr: Ctr, busybox_archive: Any) -> None:
    assert "Traceback" not in engine.log()
    ctr("images", "import", str(busybox_archive))
    name = "docker.io/library/busybox:test"
    assert ctr("run", "--rm", name, "one", "echo", "fine") == "fine\n"
