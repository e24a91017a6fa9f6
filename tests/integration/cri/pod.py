"""A pod as a kubelet keeps it: made, filled with containers, looked at, and taken away."""

import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orlop.api.cri import v1
from tests.integration.cri.kubelet import Kubelet

IMAGE = "docker.io/library/busybox:test"
_LINE = re.compile(r"(\S+) (stdout|stderr) ([FP]) (.*)")


class Pod:
    """One pod; *changes* are further fields of its PodSandboxConfig."""

    def __init__(self, kubelet: Kubelet, folder: Path, **changes: Any) -> None:
        self.kubelet = kubelet
        self.id = ""
        self.logs = folder / uuid.uuid4().hex
        self.logs.mkdir(parents=True)
        security = v1.LinuxSandboxSecurityContext(
            namespace_options=v1.NamespaceOption(pid=v1.CONTAINER)
        )
        self.config = v1.PodSandboxConfig(
            metadata=v1.PodSandboxMetadata(name="web", uid=uuid.uuid4().hex, namespace="default"),
            hostname="web",
            log_directory=str(self.logs),
            labels={"app": "web", "io.kubernetes.pod.name": "web"},
            annotations={"kubernetes.io/config.source": "test"},
            linux=v1.LinuxPodSandboxConfig(
                cgroup_parent=f"/orlop-test-pods/{uuid.uuid4().hex}", security_context=security
            ),
        )
        self.config.MergeFrom(v1.PodSandboxConfig(**changes))

    def run(self) -> "Pod":
        answer = self.kubelet(v1.RunPodSandboxRequest(config=self.config))
        self.id = answer.pod_sandbox_id
        return self

    def create(
        self,
        name: str = "main",
        *command: str,
        pid: v1.NamespaceMode = v1.CONTAINER,
        **changes: Any,
    ) -> str:
        """Make a container and return its id; *changes* are of its ContainerConfig."""
        (self.logs / name).mkdir(exist_ok=True)
        context = v1.LinuxContainerSecurityContext(namespace_options=v1.NamespaceOption(pid=pid))
        config = v1.ContainerConfig(
            metadata=v1.ContainerMetadata(name=name),
            image=v1.ImageSpec(image=IMAGE),
            command=list(command),
            log_path=f"{name}/0.log",
            labels={"io.kubernetes.container.name": name},
            annotations={"io.kubernetes.container.hash": "1"},
            linux=v1.LinuxContainerConfig(security_context=context),
        )
        config.MergeFrom(v1.ContainerConfig(**changes))
        request = v1.CreateContainerRequest(
            pod_sandbox_id=self.id, config=config, sandbox_config=self.config
        )
        made: str = self.kubelet(request).container_id
        return made

    def start(self, name: str = "main", *command: str, **changes: Any) -> str:
        """Make a container, start it, and return its id."""
        container = self.create(name, *command, **changes)
        self.kubelet(v1.StartContainerRequest(container_id=container))
        return container

    def run_to_end(self, name: str, *command: str, **changes: Any) -> v1.ContainerStatus:
        """Start a container, and return its status once it has ended."""
        container = self.start(name, *command, **changes)
        return self.ended(container)

    def status(self, container: str) -> v1.ContainerStatus:
        answer = self.kubelet(v1.ContainerStatusRequest(container_id=container))
        found: v1.ContainerStatus = answer.status
        return found

    def ended(self, container: str) -> v1.ContainerStatus:
        eventually(lambda: self.status(container).state == v1.CONTAINER_EXITED)
        return self.status(container)

    def sandbox(self) -> v1.PodSandboxStatus:
        answer = self.kubelet(v1.PodSandboxStatusRequest(pod_sandbox_id=self.id))
        found: v1.PodSandboxStatus = answer.status
        return found

    def output(self, name: str, stream: str = "stdout") -> str:
        """Return what a container has written, as a kubelet reads the log."""
        text, log = "", self.logs / name / "0.log"
        if not log.exists():  # nothing has been written yet
            return ""
        for line in log.read_text().splitlines():
            match = _LINE.fullmatch(line)
            assert match is not None, line
            if match[2] == stream:
                text += match[4] + ("\n" if match[3] == "F" else "")
        return text

    def stop(self) -> None:
        self.kubelet(v1.StopPodSandboxRequest(pod_sandbox_id=self.id))

    def remove(self) -> None:
        self.kubelet(v1.RemovePodSandboxRequest(pod_sandbox_id=self.id))


def eventually(condition: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def remove_cgroups() -> None:
    """Remove the cgroups of the pods, as a kubelet does."""
    for parent in Path("/sys/fs/cgroup").glob("**/orlop-test-pods"):
        for folder in (*parent.iterdir(), parent):
            if folder.is_dir():
                folder.rmdir()
