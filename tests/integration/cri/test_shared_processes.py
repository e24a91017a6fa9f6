"""Pods whose containers share a pid namespace."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.api.cri import v1
from tests.integration.cri.kubelet import RefusedError
from tests.integration.cri.pod import Pod, eventually
from tests.integration.engines import EngineProcess


@pytest.fixture
def sharing(make_pod: Callable[..., Pod]) -> Pod:
    pod = make_pod()
    pod.config.linux.security_context.namespace_options.pid = v1.POD
    return pod.run()


def start(pod: Pod, name: str, *command: str) -> str:
    """Start a container in the shared namespace."""
    container = pod.create(name, *command, pid=v1.POD)
    pod.kubelet(v1.StartContainerRequest(container_id=container))
    return container


def shown(pod: Pod, container: str, script: str) -> str:
    request = v1.ExecSyncRequest(container_id=container, cmd=["sh", "-c", script])
    text: bytes = pod.kubelet(request).stdout
    return text.decode()


def pauses() -> set[str]:
    """Return the ids of the host's processes that are called "pause"."""
    found = set()
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if one.read_bytes() == b"pause\0":
                found.add(one.parent.name)
        except OSError:
            continue
    return found


def test_containers_see_each_others_processes_and_a_first_one(sharing: Pod) -> None:
    first = start(sharing, "first", "sleep", "987128")
    second = start(sharing, "second", "sleep", "987129")
    processes = shown(sharing, second, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "sleep 987128" in processes
    assert "sleep 987129" in processes
    assert shown(sharing, first, "cat /proc/1/cmdline") == "pause\0"
    status = shown(sharing, first, "cat /proc/1/status")
    assert "Uid:\t65534\t65534\t65534\t65534" in status
    assert "CapBnd:\t0000000000000000" in status
    assert shown(sharing, first, "ls /proc/1/root/ 2>/dev/null") == ""
    sharing.kubelet(v1.StopContainerRequest(container_id=first, timeout=0))
    assert sharing.status(second).state == v1.CONTAINER_RUNNING


def test_orphans_are_reaped(sharing: Pod) -> None:
    container = start(sharing, "main", "sleep", "987130")
    shown(sharing, container, "(sleep 0.2 &)")
    zombies = "cat /proc/[0-9]*/status | grep -c '^State:.Z'"
    eventually(lambda: shown(sharing, container, "ps | grep -c '[s]leep 0.2'") == "0\n")
    assert shown(sharing, container, zombies) == "0\n"


def test_the_first_process_lives_as_long_as_the_pod(
    engine: EngineProcess, sharing: Pod, make_pod: Callable[..., Pod]
) -> None:
    before = pauses()
    assert len(before) == 1
    container = start(sharing, "main", "sleep", "987131")
    engine.stop(signal.SIGKILL)
    engine.start()
    eventually(lambda: sharing.kubelet(v1.VersionRequest()).runtime_name == "orlop")
    assert sharing.status(container).state == v1.CONTAINER_RUNNING
    later = start(sharing, "later", "sleep", "987132")
    assert "sleep 987131" in shown(sharing, later, "ps")
    assert pauses() == before
    sharing.stop()
    eventually(lambda: not pauses())


def test_a_pod_without_a_namespace_to_share_shares_none(pod: Pod) -> None:
    assert not pauses()
    with pytest.raises(RefusedError) as refused:
        start(pod, "main", "true")
    assert refused.value.code == "INVALID_ARGUMENT"


def test_a_debugging_container_sees_the_processes_of_its_target(pod: Pod) -> None:
    target = pod.start("main", "sleep", "987133")
    options = v1.NamespaceOption(pid=v1.TARGET, target_id=target)
    context = v1.LinuxContainerSecurityContext(namespace_options=options)
    debugging = pod.start(
        "debug",
        "sleep",
        "987134",
        linux=v1.LinuxContainerConfig(security_context=context),
    )
    assert shown(pod, debugging, "cat /proc/1/cmdline") == "sleep\0" + "987133\0"
    with pytest.raises(RefusedError) as refused:
        pod.create("wrong", "true", pid=v1.TARGET)
    assert refused.value.code == "INVALID_ARGUMENT"
