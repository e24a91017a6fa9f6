"""Any message to any call: it is answered or refused in one sentence, and the engine goes on."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orlop.api.cri import v1
from orlop.api.protobuf import message_class
from tests.integration.cri.kubelet import Kubelet
from tests.integration.cri.pod import Pod, remove_cgroups
from tests.integration.engines import EngineProcess

_PARENT = "/orlop-test-pods/fuzzed"
_REFUSALS = frozenset(
    [
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "OUT_OF_RANGE",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "UNAVAILABLE",
        "UNIMPLEMENTED",
    ]
)
#: PullImage would ask registries on the internet.
_METHODS = [
    method
    for service in v1.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.server_streaming and method.name != "PullImage"
]
#: No path that could be made on the host.
_TEXTS = st.sampled_from(
    ["", "a", "x" * 5000, "é\n", "a/../b", "/proc/none/x", "-1", "\0", "a=b;c", "busybox:test", "0"]
)
_NUMBERS: dict[Any, st.SearchStrategy[int]] = {
    FieldDescriptor.TYPE_INT32: st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]),
    FieldDescriptor.TYPE_INT64: st.sampled_from([0, 1, -1, 100_000, 2**63 - 1, -(2**63)]),
    FieldDescriptor.TYPE_UINT32: st.sampled_from([0, 1, 2**32 - 1]),
    FieldDescriptor.TYPE_UINT64: st.sampled_from([0, 1, 2**64 - 1]),
}


@pytest.fixture(scope="module")
def pod(
    engine: EngineProcess,
    kubelet: Kubelet,
    loaded: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Pod, str]]:
    """A pod with a container, for messages that name them."""
    del engine, loaded
    it = Pod(kubelet, tmp_path_factory.mktemp("pod")).run()
    container = it.start("main", "sleep", "987135")
    try:
        yield it, container
    finally:
        for one in kubelet(v1.ListPodSandboxRequest()).items:
            kubelet(v1.RemovePodSandboxRequest(pod_sandbox_id=one.id))
        remove_cgroups()


def values(draw: st.DrawFn, field: Any, ids: dict[str, str], depth: int) -> Any:
    """Return a value for a field."""
    if field.name == "timeout":  # a client would wait for so long
        return draw(st.sampled_from([0, -1, -(2**63)]))
    if field.name == "cgroup_parent":
        return draw(st.sampled_from(["", _PARENT, "../x", "a:b", "/", "\0"]))
    if field.name in ids and field.type == FieldDescriptor.TYPE_STRING:
        return draw(st.one_of(st.just(ids[field.name]), _TEXTS))
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return messages(draw, field.message_type, ids, depth + 1)
    if field.type == FieldDescriptor.TYPE_STRING:
        return draw(_TEXTS)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return draw(st.booleans())
    if field.type == FieldDescriptor.TYPE_ENUM:
        return draw(st.sampled_from([*field.enum_type.values_by_number, 99]))
    return draw(_NUMBERS[field.type])


def messages(draw: st.DrawFn, descriptor: Descriptor, ids: dict[str, str], depth: int = 0) -> Any:
    """Return a message with some of its fields."""
    message = message_class(descriptor)()
    for field in descriptor.fields:
        if not draw(st.booleans()) or depth > 6:
            continue
        of_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if of_map:
            getattr(message, field.name)[draw(_TEXTS)] = draw(_TEXTS)
        elif field.is_repeated:
            value = values(draw, field, ids, depth)
            getattr(message, field.name).extend([value])
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(values(draw, field, ids, depth))
        else:
            setattr(message, field.name, values(draw, field, ids, depth))
    return message


@pytest.mark.parametrize("method", _METHODS, ids=[method.name for method in _METHODS])
def test_any_message_is_answered_or_refused(
    kubelet: Kubelet, pod: tuple[Pod, str], method: Any
) -> None:
    ids = {"pod_sandbox_id": pod[0].id, "container_id": pod[1]}
    path = f"/{method.containing_service.full_name}/{method.name}"

    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        message = data.draw(st.composite(messages)(method.input_type, ids))
        ((answer, code, text, _),) = kubelet.raw([(path, message.SerializeToString(), 20)])
        if answer is None:
            assert code in _REFUSALS, f"{code}: {text}\n{message}"
            assert text
            assert "\n" not in text
            assert len(text) < 2000

    run()
    assert kubelet(v1.VersionRequest()).runtime_name == "orlop"


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_any_change_to_a_good_request_is_done_or_refused(
    kubelet: Kubelet, pod: tuple[Pod, str], data: st.DataObject
) -> None:
    it = pod[0]
    request: Any
    if data.draw(st.booleans()):
        request = v1.RunPodSandboxRequest(config=it.config)
    else:
        config = v1.ContainerConfig(image=v1.ImageSpec(image="busybox:test"), command=["true"])
        request = v1.CreateContainerRequest(
            pod_sandbox_id=it.id, config=config, sandbox_config=it.config
        )
    field = data.draw(st.sampled_from(list(type(request.config).DESCRIPTOR.fields)))
    change = data.draw(st.composite(of_one_field)(type(request.config).DESCRIPTOR, field))
    request.config.MergeFrom(change)
    request.config.metadata.name = uuid.uuid4().hex
    path = f"/runtime.v1.RuntimeService/{type(request).__name__.removesuffix('Request')}"
    ((answer, code, text, _),) = kubelet.raw([(path, request.SerializeToString(), 20)])
    if answer is None:
        assert code in _REFUSALS, f"{code}: {text}\n{change}"
        assert "\n" not in text
        return
    made = v1.CreateContainerResponse.FromString(answer).container_id  # of pods the same field
    if isinstance(request, v1.RunPodSandboxRequest):
        kubelet(v1.RemovePodSandboxRequest(pod_sandbox_id=made))
        return
    start = v1.StartContainerRequest(container_id=made).SerializeToString()
    ((answer, code, text, _),) = kubelet.raw(
        [("/runtime.v1.RuntimeService/StartContainer", start, 20)]
    )
    assert answer is not None or code in _REFUSALS, f"{code}: {text}\n{change}"
    kubelet(v1.RemoveContainerRequest(container_id=made))


def of_one_field(draw: st.DrawFn, descriptor: Descriptor, field: Any) -> Any:
    """Return a message with one of its fields, as deep as it goes."""
    message = message_class(descriptor)()
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, field.name)[draw(_TEXTS)] = draw(_TEXTS)
        return message
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        inner = draw(st.sampled_from(list(field.message_type.fields)))
        value = of_one_field(draw, field.message_type, inner)
    else:
        value = values(draw, field, {}, 0)
    if field.is_repeated:
        getattr(message, field.name).extend([value])
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)
    return message


def test_nothing_is_left_on_the_host() -> None:
    assert not Path("/proc/none").exists()
