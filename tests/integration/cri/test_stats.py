"""Statistics, metrics, limits that change, and lists as streams."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.api.cri import v1
from tests.integration.cri.kubelet import Kubelet, RefusedError
from tests.integration.cri.pod import Pod, eventually
from tests.integration.cri.watching import streaming
from tests.integration.engines import EngineProcess

_BUSY = (
    "x=$(head -c 20000000 /dev/zero | tr '\\0' x); head -c 300000 /dev/zero >/file; exec sleep 9999"
)
_MIB = 1 << 20


@pytest.fixture
def busy(pod: Pod) -> str:
    """A container that has used processor time, memory and disk."""
    limits = v1.LinuxContainerResources(memory_limit_in_bytes=200 * _MIB)
    container = pod.start(
        "main", "sh", "-c", _BUSY, linux=v1.LinuxContainerConfig(resources=limits)
    )
    ready = v1.ExecSyncRequest(container_id=container, cmd=["test", "-s", "/file"])
    eventually(lambda: pod.kubelet(ready).exit_code == 0)
    return container


def cgroup_file(pod: Pod, container: str, controller: str, name: str) -> int:
    """Read what the kernel says of a container; *name* is v1's."""
    parent = pod.config.linux.cgroup_parent.strip("/")
    path = Path("/sys/fs/cgroup", controller, parent, container, name)
    return int(path.read_text())


def test_a_containers_statistics_are_the_kernels(pod: Pod, busy: str) -> None:
    told = pod.kubelet(v1.ContainerStatsRequest(container_id=busy)).stats
    assert (told.attributes.id, told.attributes.metadata.name) == (busy, "main")
    assert 0 < told.cpu.usage_core_nano_seconds.value < 60 * 10**9
    assert not told.cpu.HasField("usage_nano_cores")
    memory = told.memory
    assert 0 < memory.working_set_bytes.value <= memory.usage_bytes.value < 200 * _MIB
    assert memory.available_bytes.value == 200 * _MIB - memory.working_set_bytes.value
    assert memory.page_faults.value > 0
    assert 300_000 <= told.writable_layer.used_bytes.value < 400_000
    again = pod.kubelet(v1.ContainerStatsRequest(container_id=busy)).stats
    assert again.cpu.HasField("usage_nano_cores")
    assert again.cpu.timestamp > told.cpu.timestamp


def test_lists_have_what_runs(engine: EngineProcess, pod: Pod, busy: str) -> None:
    ended = pod.run_to_end("over", "true").id
    mine = v1.ContainerStatsFilter(pod_sandbox_id=pod.id)
    listed = pod.kubelet(v1.ListContainerStatsRequest(filter=mine)).stats
    assert [one.attributes.id for one in listed] == [busy]
    over = pod.kubelet(v1.ContainerStatsRequest(container_id=ended)).stats
    assert over.attributes.id == ended
    assert not over.HasField("cpu")
    with streaming(engine, "RuntimeService/StreamContainerStats") as messages:
        streamed = list(map(v1.StreamContainerStatsResponse.FromString, messages))
    assert [one.attributes.id for message in streamed for one in message.container_stats] == [busy]


def test_a_pods_statistics_are_those_of_its_cgroup(
    engine: EngineProcess, pod: Pod, busy: str
) -> None:
    other = pod.start("other", "sleep", "9999")
    told = pod.kubelet(v1.PodSandboxStatsRequest(pod_sandbox_id=pod.id)).stats
    assert (told.attributes.id, told.attributes.labels["app"]) == (pod.id, "web")
    both = told.linux.containers
    assert {one.attributes.id for one in both} == {busy, other}
    assert told.linux.memory.usage_bytes.value >= max(one.memory.rss_bytes.value for one in both)
    assert told.linux.process.process_count.value == 2
    assert told.linux.network.default_interface.name == "eth0"
    assert told.linux.network.default_interface.rx_errors.value == 0
    listed = pod.kubelet(v1.ListPodSandboxStatsRequest()).stats
    assert [one.attributes.id for one in listed] == [pod.id]
    with streaming(engine, "RuntimeService/StreamPodSandboxStats") as messages:
        (message,) = map(v1.StreamPodSandboxStatsResponse.FromString, messages)
    assert [one.attributes.id for one in message.pod_sandbox_stats] == [pod.id]


def test_metrics_have_the_labels_of_their_descriptors(
    engine: EngineProcess, pod: Pod, busy: str
) -> None:
    described = {
        one.name: one for one in pod.kubelet(v1.ListMetricDescriptorsRequest()).descriptors
    }
    (told,) = pod.kubelet(v1.ListPodSandboxMetricsRequest()).pod_metrics
    (of_container,) = told.container_metrics
    assert (told.pod_sandbox_id, of_container.container_id) == (pod.id, busy)
    for metric in (*told.metrics, *of_container.metrics):
        assert len(metric.label_values) == len(described[metric.name].label_keys)
    assert {one.name for one in (*told.metrics, *of_container.metrics)} == set(described)
    limit = {one.name: one.value.value for one in of_container.metrics}
    assert limit["container_spec_memory_limit_bytes"] == 200 * _MIB
    assert limit["container_processes"] == 1
    with streaming(engine, "RuntimeService/StreamPodSandboxMetrics") as messages:
        (message,) = map(v1.StreamPodSandboxMetricsResponse.FromString, messages)
    assert [one.pod_sandbox_id for one in message.pod_sandbox_metrics] == [pod.id]


def test_statistics_of_what_is_gone_are_not_found(kubelet: Kubelet) -> None:
    requests = [
        v1.ContainerStatsRequest(container_id="f" * 64),
        v1.PodSandboxStatsRequest(pod_sandbox_id="f" * 64),
    ]
    for refused in kubelet.all(requests):
        assert isinstance(refused, RefusedError)
        assert refused.code == "NOT_FOUND"


def test_limits_of_a_running_container_change(pod: Pod, busy: str) -> None:
    limits = v1.LinuxContainerResources(
        memory_limit_in_bytes=300 * _MIB, cpu_quota=20_000, cpu_period=100_000, cpu_shares=512
    )
    pod.kubelet(v1.UpdateContainerResourcesRequest(container_id=busy, linux=limits))
    assert cgroup_file(pod, busy, "memory", "memory.limit_in_bytes") == 300 * _MIB
    assert cgroup_file(pod, busy, "cpu", "cpu.cfs_quota_us") == 20_000
    now = pod.status(busy).resources.linux
    assert (now.memory_limit_in_bytes, now.cpu_quota, now.cpu_shares) == (300 * _MIB, 20_000, 512)
    lifted = v1.LinuxContainerResources(cpu_quota=-1)
    pod.kubelet(v1.UpdateContainerResourcesRequest(container_id=busy, linux=lifted))
    assert cgroup_file(pod, busy, "cpu", "cpu.cfs_quota_us") == -1
    assert cgroup_file(pod, busy, "memory", "memory.limit_in_bytes") == 300 * _MIB


def test_resources_of_a_pod_are_kept(pod: Pod) -> None:
    now = v1.LinuxContainerResources(cpu_shares=77)
    pod.kubelet(v1.UpdatePodSandboxResourcesRequest(pod_sandbox_id=pod.id, resources=now))
    request = v1.PodSandboxStatusRequest(pod_sandbox_id=pod.id, verbose=True)
    config = json.loads(pod.kubelet(request).info["info"])["config"]
    assert config["linux"]["resources"] == {"cpu_shares": "77"}
    assert config["metadata"]["uid"] == pod.config.metadata.uid


def test_lists_come_as_streams(engine: EngineProcess, make_pod: Callable[..., Pod]) -> None:
    pod = make_pod().run()
    ids = {pod.create(f"c{number}", "true") for number in range(3)}
    with streaming(engine, "RuntimeService/StreamContainers") as messages:
        told = list(map(v1.StreamContainersResponse.FromString, messages))
    assert {one.id for message in told for one in message.containers} == ids
    with streaming(engine, "RuntimeService/StreamPodSandboxes") as messages:
        (pods,) = map(v1.StreamPodSandboxesResponse.FromString, messages)
    assert [one.id for one in pods.pod_sandboxes] == [pod.id]
    with streaming(engine, "ImageService/StreamImages") as messages:
        (images,) = map(v1.StreamImagesResponse.FromString, messages)
    assert images == v1.StreamImagesResponse(images=pod.kubelet(v1.ListImagesRequest()).images)
