"""What a pod's and a container's security context and mounts say, as the container sees it."""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orlop.api.cri import v1
from tests.integration.cri.kubelet import Kubelet, RefusedError
from tests.integration.cri.pod import Pod, eventually

_UNCONFINED = v1.SecurityProfile(profile_type=v1.SecurityProfile.Unconfined)


def linux(**changes: Any) -> v1.LinuxContainerConfig:
    """Return a container's configuration with *changes* to its security context."""
    return v1.LinuxContainerConfig(security_context=v1.LinuxContainerSecurityContext(**changes))


def printed(pod: Pod, name: str, script: str, **changes: Any) -> str:
    """Run *script* in a container to its end, and return what it wrote."""
    assert pod.run_to_end(name, "sh", "-c", script, **changes).exit_code == 0
    return pod.output(name)


def status(pod: Pod, name: str, **changes: Any) -> dict[str, str]:
    """Return /proc/self/status of a container with a security context."""
    text = printed(pod, name, "cat /proc/self/status", linux=linux(**changes))
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.split("\n"))
    }


def test_seccomp_is_as_the_profile_says(pod: Pod, tmp_path: Path) -> None:
    assert status(pod, "default")["Seccomp"] == "2"
    assert status(pod, "unconfined", seccomp=_UNCONFINED)["Seccomp"] == "0"
    profile = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    local = v1.SecurityProfile(
        profile_type=v1.SecurityProfile.Localhost, localhost_ref=str(profile)
    )
    context = linux(seccomp=local)
    assert (
        printed(pod, "local", "mkdir /x 2>/dev/null || echo refused", linux=context) == "refused\n"
    )


def test_capabilities_and_privileges_are_as_asked(pod: Pod) -> None:
    drop_all = v1.Capability(drop_capabilities=["ALL"], add_capabilities=["NET_BIND_SERVICE"])
    told = status(pod, "little", capabilities=drop_all, no_new_privs=True)
    assert int(told["CapBnd"], 16) == 1 << 10
    assert told["NoNewPrivs"] == "1"
    everything = status(pod, "privileged", privileged=True)
    assert everything["Seccomp"] == "0"
    assert int(everything["CapEff"], 16) & 1 << 21  # CAP_SYS_ADMIN


def test_paths_are_hidden_and_read_only_as_asked(pod: Pod) -> None:
    context = linux(masked_paths=["/proc/version"], readonly_paths=["/bin"])
    script = "wc -c </proc/version; touch /x; touch /bin/x 2>/dev/null || echo refused"
    assert printed(pod, "paths", script, linux=context).split() == ["0", "refused"]
    root = linux(readonly_rootfs=True)
    assert printed(pod, "root", "touch /x 2>/dev/null || echo refused", linux=root) == "refused\n"


def _accounts(tmp_path: Path) -> list[v1.Mount]:
    files = {
        "passwd": "root:x:0:0::/:/bin/sh\nworker:x:1234:1234::/:/bin/sh\n",
        "group": "root:x:0:\nworker:x:1234:\nextra:x:5000:worker\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return [
        v1.Mount(host_path=str(tmp_path / name), container_path=f"/etc/{name}", readonly=True)
        for name in files
    ]


@pytest.mark.parametrize(
    ("policy", "groups"), [(v1.Merge, "50 5000 70000"), (v1.Strict, "50 70000")]
)
def test_supplemental_groups_follow_the_policy(
    pod: Pod, tmp_path: Path, policy: v1.SupplementalGroupsPolicy, groups: str
) -> None:
    context = linux(
        run_as_user=v1.Int64Value(value=1234),
        run_as_group=v1.Int64Value(value=50),
        supplemental_groups=[70000],
        supplemental_groups_policy=policy,
    )
    script = "echo $(id -u) $(grep Groups /proc/self/status)"
    text = printed(pod, "main", script, linux=context, mounts=_accounts(tmp_path))
    assert text == f"1234 Groups: {groups}\n"


def test_a_container_gets_the_stop_signal_that_was_asked_for(pod: Pod) -> None:
    script = 'trap "echo usr1; exit 5" USR1; echo ready; while :; do sleep 0.05; done'
    container = pod.start("main", "sh", "-c", script, stop_signal=v1.SIGUSR1)
    eventually(lambda: pod.output("main") == "ready\n")
    pod.kubelet(v1.StopContainerRequest(container_id=container, timeout=20))
    ended = pod.ended(container)
    assert (ended.exit_code, ended.stop_signal) == (5, v1.SIGUSR1)
    assert pod.output("main") == "ready\nusr1\n"
    other = pod.create("other", "true", stop_signal=v1.SIGRTMINPLUS3)
    assert pod.status(other).stop_signal == v1.SIGRTMINPLUS3


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A folder with a mount below it."""
    below = tmp_path / "tree" / "below"
    below.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    try:
        yield below.parent
    finally:
        subprocess.run(["umount", below], check=True)


def test_only_recursively_read_only_mounts_are_read_only_all_the_way(pod: Pod, tree: Path) -> None:
    script = "touch /data/x 2>/dev/null || echo top; touch /data/below/x 2>/dev/null || echo below"
    mount = v1.Mount(host_path=str(tree), container_path="/data", readonly=True)
    assert printed(pod, "plain", script, mounts=[mount]) == "top\n"
    mount.recursive_read_only = True
    assert printed(pod, "recursive", script, mounts=[mount]) == "top\nbelow\n"
    mount.propagation = v1.PROPAGATION_HOST_TO_CONTAINER
    with pytest.raises(RefusedError) as refused:
        pod.create("wrong", "true", mounts=[mount])
    assert refused.value.code == "INVALID_ARGUMENT"


def test_no_huge_pages_are_a_limit_that_every_host_can_keep(pod: Pod) -> None:
    limits = v1.LinuxContainerResources(
        hugepage_limits=[v1.HugepageLimit(page_size="2MB"), v1.HugepageLimit(page_size="1GB")]
    )
    ended = pod.run_to_end("main", "true", linux=v1.LinuxContainerConfig(resources=limits))
    assert ended.exit_code == 0
    assert [one.page_size for one in ended.resources.linux.hugepage_limits] == ["2MB", "1GB"]


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


def test_a_port_of_the_host_leads_into_the_pod(make_pod: Callable[..., Pod]) -> None:
    port = _free_port()
    mappings = [
        v1.PortMapping(container_port=8080, host_port=port),
        v1.PortMapping(container_port=8081),
    ]
    pod = make_pod(port_mappings=mappings).run()
    pod.start("server", "sh", "-c", "while true; do hostname | nc -l -p 8080; done")
    eventually(lambda: _answer(port) == b"web\n")
    pod.stop()
    assert _answer(port) == b""


def _answer(port: int) -> bytes:
    try:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
            return connection.recv(100)
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "changes",
    [
        {"CDI_devices": [v1.CDIDevice(name="vendor.com/gpu=0")]},
        {"mounts": [v1.Mount(image=v1.ImageSpec(image="busybox:test"), container_path="/x")]},
        {
            "linux": linux(
                apparmor=v1.SecurityProfile(
                    profile_type=v1.SecurityProfile.Localhost, localhost_ref="strict"
                )
            )
        },
    ],
    ids=["cdi", "image volume", "apparmor"],
)
def test_what_is_not_supported_is_refused(pod: Pod, changes: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as refused:
        pod.create("main", "true", **changes)
    assert refused.value.code == "UNIMPLEMENTED"


def test_pods_of_unknown_kinds_are_refused(kubelet: Kubelet, make_pod: Callable[..., Pod]) -> None:
    pod = make_pod()
    with pytest.raises(RefusedError) as refused:
        kubelet(v1.RunPodSandboxRequest(config=pod.config, runtime_handler="gvisor"))
    assert refused.value.code == "INVALID_ARGUMENT"
    mapping = v1.IDMapping(host_id=100_000, length=65536)
    options = pod.config.linux.security_context.namespace_options
    options.userns_options.CopyFrom(v1.UserNamespace(uids=[mapping], gids=[mapping]))
    with pytest.raises(RefusedError) as refused:
        pod.run()
    assert refused.value.code == "UNIMPLEMENTED"


def test_the_status_says_which_handlers_there_are(kubelet: Kubelet) -> None:
    told = kubelet(v1.StatusRequest(verbose=True))
    assert [one.name for one in told.runtime_handlers] == ["", "orlop"]
    assert all(one.features.recursive_read_only_mounts for one in told.runtime_handlers)
    assert not any(one.features.user_namespaces for one in told.runtime_handlers)
    assert json.loads(told.info["version"])
