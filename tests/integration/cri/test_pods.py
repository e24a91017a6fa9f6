"""A pod's life as a kubelet drives it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.api.cri import v1
from tests.integration.cri.kubelet import Kubelet, RefusedError
from tests.integration.cri.pod import Pod, eventually
from tests.integration.engines import EngineProcess

FOREVER = ("sleep", "1000000")


def pid_of(pod: Pod, container: str) -> int:
    answer = pod.kubelet(v1.ContainerStatusRequest(container_id=container, verbose=True))
    return int(answer.info["info"].partition('"pid": ')[2].rstrip("}"))


def namespaces(pid: int) -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "ipc", "uts", "pid")}


def test_a_life_in_the_order_of_a_kubelet(pod: Pod) -> None:
    kubelet = pod.kubelet
    sandbox = pod.sandbox()
    assert sandbox.state == v1.SANDBOX_READY
    assert sandbox.metadata == pod.config.metadata
    assert sandbox.labels == pod.config.labels
    assert sandbox.annotations == pod.config.annotations
    assert sandbox.network.ip
    container = pod.create("main", "sh", "-c", "echo out; echo err >&2; hostname; sleep 1000000")
    assert pod.status(container).state == v1.CONTAINER_CREATED
    kubelet(v1.StartContainerRequest(container_id=container))
    status = pod.status(container)
    assert status.state == v1.CONTAINER_RUNNING
    assert status.started_at >= status.created_at > 0
    assert status.metadata.name == "main"
    (listed,) = kubelet(
        v1.ListContainersRequest(filter=v1.ContainerFilter(pod_sandbox_id=pod.id))
    ).containers
    assert (listed.id, listed.state) == (container, v1.CONTAINER_RUNNING)
    eventually(lambda: pod.output("main") == "out\nweb\n")
    kubelet(v1.StopContainerRequest(container_id=container, timeout=0))
    status = pod.status(container)
    assert (status.state, status.exit_code, status.reason) == (v1.CONTAINER_EXITED, 137, "Error")
    assert pod.output("main", "stderr") == "err\n"
    pod.stop()
    assert pod.sandbox().state == v1.SANDBOX_NOTREADY
    assert pod.sandbox().network.ip == ""
    kubelet(v1.RemoveContainerRequest(container_id=container))
    pod.remove()
    assert pod.id not in {one.id for one in kubelet(v1.ListPodSandboxRequest()).items}
    assert (pod.logs / "main/0.log").exists()


def test_containers_share_network_ipc_uts_and_shm_and_not_pids(pod: Pod) -> None:
    script = "echo hello > /dev/shm/note; ip -o -4 addr show eth0; sleep 1000000"
    first = pod.start("first", "sh", "-c", script)
    second = pod.start("second", *FOREVER)
    one, two = (namespaces(pid_of(pod, each)) for each in (first, second))
    assert {kind for kind in one if one[kind] == two[kind]} == {"net", "ipc", "uts"}
    assert set(one.values()).isdisjoint(namespaces(os.getpid()).values())
    status = pod.run_to_end("third", "cat", "/dev/shm/note")
    assert (status.exit_code, status.reason, pod.output("third")) == (0, "Completed", "hello\n")
    assert pod.sandbox().network.ip in pod.output("first")


def test_what_containers_share_outlives_each_of_them(pod: Pod) -> None:
    pod.run_to_end("first", "sh", "-c", "echo there > /dev/shm/note")
    pod.run_to_end("second", "cat", "/dev/shm/note")
    assert pod.output("second") == "there\n"


def test_a_container_is_in_the_cgroup_of_its_pod(pod: Pod) -> None:
    container = pod.start("main", *FOREVER)
    lines = Path(f"/proc/{pid_of(pod, container)}/cgroup").read_text().splitlines()
    parent = pod.config.linux.cgroup_parent
    assert any(line.endswith(f"{parent}/{container}") for line in lines)


def test_names_servers_and_sysctls_are_the_pods(make_pod: Callable[..., Pod]) -> None:
    pod = make_pod(
        dns_config=v1.DNSConfig(servers=["192.0.2.7"], searches=["a.test"], options=["ndots:5"]),
        linux=v1.LinuxPodSandboxConfig(
            sysctls={"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}
        ),
    ).run()
    files = "/etc/resolv.conf /etc/hostname /proc/sys/net/ipv4/ip_forward"
    pod.run_to_end("main", "sh", "-c", f"cat {files} /proc/sys/kernel/shm_rmid_forced")
    text = pod.output("main")
    for line in ("nameserver 192.0.2.7", "search a.test", "options ndots:5"):
        assert line in text.splitlines()
    assert text.splitlines()[-3:] == ["web", "1", "1"]


def test_a_pod_of_the_host_shares_its_network_and_names(make_pod: Callable[..., Pod]) -> None:
    context = v1.LinuxSandboxSecurityContext(
        namespace_options=v1.NamespaceOption(network=v1.NODE, ipc=v1.NODE, pid=v1.CONTAINER)
    )
    pod = make_pod(linux=v1.LinuxPodSandboxConfig(security_context=context)).run()
    container = pod.start("main", *FOREVER)
    own, here = namespaces(pid_of(pod, container)), namespaces(os.getpid())
    assert {kind for kind in own if own[kind] == here[kind]} == {"net", "ipc", "uts"}
    assert pod.sandbox().network.ip == ""


def test_pods_are_found_by_id_state_and_labels(make_pod: Callable[..., Pod]) -> None:
    one, two = make_pod(labels={"tier": "a"}).run(), make_pod(labels={"tier": "b"}).run()
    two.stop()

    def found(**wanted: object) -> set[str]:
        chosen = v1.PodSandboxFilter(**wanted)  # type: ignore[arg-type]
        items = one.kubelet(v1.ListPodSandboxRequest(filter=chosen)).items
        return {item.id for item in items} & {one.id, two.id}

    assert found() == {one.id, two.id}
    assert found(id=one.id) == {one.id}
    assert found(label_selector={"app": "web", "tier": "b"}) == {two.id}
    assert found(state=v1.PodSandboxStateValue(state=v1.SANDBOX_READY)) == {one.id}
    assert found(state=v1.PodSandboxStateValue(state=v1.SANDBOX_NOTREADY)) == {two.id}


def test_containers_are_found_by_id_state_labels_and_pod(make_pod: Callable[..., Pod]) -> None:
    one, two = make_pod().run(), make_pod().run()
    running = one.start("running", *FOREVER)
    made = one.create("made", *FOREVER)
    other = two.create("made", *FOREVER)

    def found(**wanted: object) -> set[str]:
        chosen = v1.ContainerFilter(**wanted)  # type: ignore[arg-type]
        listed = one.kubelet(v1.ListContainersRequest(filter=chosen)).containers
        return {item.id for item in listed} & {running, made, other}

    assert found() == {running, made, other}
    assert found(id=made[:20]) == {made}
    assert found(pod_sandbox_id=one.id) == {running, made}
    assert found(label_selector={"io.kubernetes.container.name": "made"}) == {made, other}
    assert found(state=v1.ContainerStateValue(state=v1.CONTAINER_RUNNING)) == {running}


def test_stop_and_remove_of_what_is_gone_is_no_error(pod: Pod) -> None:
    container = pod.start("main", *FOREVER)
    for _ in range(2):
        pod.kubelet(v1.StopContainerRequest(container_id=container, timeout=0))
    for _ in range(2):
        pod.kubelet(v1.RemoveContainerRequest(container_id=container))
    pod.kubelet(v1.StopContainerRequest(container_id=container))
    for _ in range(2):
        pod.stop()
    for _ in range(2):
        pod.remove()
    pod.stop()


def test_removal_of_a_pod_takes_its_containers(pod: Pod) -> None:
    containers = {pod.start("one", *FOREVER), pod.create("two", *FOREVER)}
    pids = [pid_of(pod, each) for each in containers]
    pod.remove()
    left = {one.id for one in pod.kubelet(v1.ListContainersRequest()).containers}
    assert left.isdisjoint(containers)
    assert not any(pid and Path(f"/proc/{pid}").exists() for pid in pids)


def test_no_container_starts_in_a_pod_that_is_stopped(pod: Pod) -> None:
    container = pod.create("main", *FOREVER)
    pod.stop()
    for attempt in (
        lambda: pod.kubelet(v1.StartContainerRequest(container_id=container)),
        lambda: pod.create("late", *FOREVER),
    ):
        with pytest.raises(RefusedError) as refused:
            attempt()
        assert refused.value.code == "FAILED_PRECONDITION"


def test_a_name_is_free_again_when_its_pod_is_removed(make_pod: Callable[..., Pod]) -> None:
    pod = make_pod().run()
    again = make_pod(metadata=pod.config.metadata)
    with pytest.raises(RefusedError) as refused:
        again.run()
    assert refused.value.code == "ALREADY_EXISTS"
    pod.remove()
    again.run()


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": v1.PodSandboxMetadata(name="../x")},
        {"hostname": "x" * 65},
        {"linux": v1.LinuxPodSandboxConfig(sysctls={"kernel.panic": "1"})},
        {"linux": v1.LinuxPodSandboxConfig(sysctls={"net.ipv4.ip_forward": "x\ny"})},
        {"linux": v1.LinuxPodSandboxConfig(sysctls={"net.ipv4.tcp_rmem": "many"})},
        {"linux": v1.LinuxPodSandboxConfig(cgroup_parent="/a/../b")},
    ],
)
def test_a_pod_that_cannot_be_leaves_nothing(
    make_pod: Callable[..., Pod], kubelet: Kubelet, changes: dict[str, object]
) -> None:
    before = {item.id for item in kubelet(v1.ListPodSandboxRequest()).items}
    pod = make_pod(**changes)
    with pytest.raises(RefusedError) as refused:
        pod.run()
    assert refused.value.code == "INVALID_ARGUMENT"
    assert "\n" not in refused.value.text
    assert {item.id for item in kubelet(v1.ListPodSandboxRequest()).items} == before


def test_docker_sees_the_containers_of_pods_and_not_the_pods(
    engine: EngineProcess, pod: Pod
) -> None:
    container = pod.start("main", *FOREVER)
    seen = engine.out("ps", "-q", "--no-trunc").split()
    assert container in seen
    assert pod.id not in seen
    engine.docker("rm", "-f", pod.id, check=False)
    assert pod.sandbox().state == v1.SANDBOX_READY
