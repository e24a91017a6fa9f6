"""GetContainerEvents: what a kubelet hears without asking for lists."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from orlop.api.cri import v1
from tests.integration.cri.kubelet import Kubelet
from tests.integration.cri.pod import IMAGE, Pod, eventually
from tests.integration.cri.watching import streaming
from tests.integration.engines import EngineProcess

CREATED, STARTED = v1.CONTAINER_CREATED_EVENT, v1.CONTAINER_STARTED_EVENT
STOPPED, DELETED = v1.CONTAINER_STOPPED_EVENT, v1.CONTAINER_DELETED_EVENT


@contextmanager
def watching(engine: EngineProcess) -> Iterator[Iterator[v1.ContainerEventResponse]]:
    """Give the events from now on; the client is killed in the end."""
    with streaming(engine, "RuntimeService/GetContainerEvents") as messages:
        yield map(v1.ContainerEventResponse.FromString, messages)


def test_a_life_is_told_with_the_state_of_its_pod(engine: EngineProcess, pod: Pod) -> None:
    with watching(engine) as events:
        container = pod.create("main", "sleep", "1000000")
        created = next(events)
        pod.kubelet(v1.StartContainerRequest(container_id=container))
        started = next(events)
        pod.kubelet(v1.StopContainerRequest(container_id=container, timeout=0))
        stopped = next(events)
        pod.kubelet(v1.RemoveContainerRequest(container_id=container))
        deleted = next(events)
        pod.stop()
        pod_stopped = next(events)
        pod.remove()
        pod_deleted = next(events)
    told = (created, started, stopped, deleted, pod_stopped, pod_deleted)
    assert [(one.container_id, one.container_event_type) for one in told] == [
        (container, CREATED),
        (container, STARTED),
        (container, STOPPED),
        (container, DELETED),
        (pod.id, STOPPED),
        (pod.id, DELETED),
    ]
    assert started.pod_sandbox_status.id == pod.id
    assert [one.state for one in started.containers_statuses] == [v1.CONTAINER_RUNNING]
    assert [one.exit_code for one in stopped.containers_statuses] == [137]
    assert not deleted.containers_statuses
    assert pod_stopped.pod_sandbox_status.state == v1.SANDBOX_NOTREADY
    assert not pod_deleted.HasField("pod_sandbox_status")


def test_clients_that_go_leave_no_subscription(engine: EngineProcess, kubelet: Kubelet) -> None:
    kubelet(v1.VersionRequest())

    def subscribers() -> int:
        return int(engine.out("info", "--format", "{{.NEventsListener}}"))

    before = subscribers()
    with watching(engine), watching(engine):
        assert subscribers() == before + 2
    eventually(lambda: subscribers() == before)


def test_docker_hears_of_the_container_and_not_of_the_pod(engine: EngineProcess, pod: Pod) -> None:
    container = pod.create("main", "true")
    soon = str(time.time() + 0.5)
    told = engine.out("events", "--since", "1h", "--until", soon, "--format", "{{.Actor.ID}}")
    ids = told.split()
    assert container in ids
    assert pod.id not in ids


def test_a_container_outlives_its_image(pod: Pod, engine: EngineProcess) -> None:
    container = pod.run_to_end("main", "true")
    pod.kubelet(v1.RemoveImageRequest(image=v1.ImageSpec(image=IMAGE)))
    with watching(engine) as events:
        pod.stop()
        assert [one.id for one in next(events).containers_statuses] == [container.id]
    assert pod.status(container.id).image_id == container.image_id
