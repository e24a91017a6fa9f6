"""ExecSync: a command in a container, with its output and a time limit."""

from pathlib import Path

import pytest

from orlop.api.cri import v1
from tests.integration.cri.kubelet import RefusedError
from tests.integration.cri.pod import Pod, eventually


@pytest.fixture
def container(pod: Pod) -> str:
    return pod.start("main", "sleep", "1000000")


def processes(marker: str) -> list[str]:
    """Return the ids of the host's processes that have *marker* as an argument."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = one.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if marker.encode() in words:
            found.append(one.parent.name)
    return found


def test_output_and_exit_code_are_the_commands(pod: Pod, container: str) -> None:
    script = "echo out; echo err >&2; exit 7"
    answer = pod.kubelet(v1.ExecSyncRequest(container_id=container, cmd=["sh", "-c", script]))
    assert (answer.stdout, answer.stderr, answer.exit_code) == (b"out\n", b"err\n", 7)


def test_a_command_over_its_time_is_killed_with_its_children(pod: Pod, container: str) -> None:
    script = "sleep 987123 & sleep 987123"
    with pytest.raises(RefusedError) as refused:
        pod.kubelet(v1.ExecSyncRequest(container_id=container, cmd=["sh", "-c", script], timeout=1))
    assert refused.value.code == "DEADLINE_EXCEEDED"
    eventually(lambda: not processes("987123"))


def test_a_command_whose_client_gives_up_is_killed(pod: Pod, container: str) -> None:
    request = v1.ExecSyncRequest(container_id=container, cmd=["sleep", "987124"])
    with pytest.raises(RefusedError) as refused:
        pod.kubelet(request, timeout_s=1)
    assert refused.value.code == "DEADLINE_EXCEEDED"
    eventually(lambda: not processes("987124"))


@pytest.mark.parametrize("command", [[], ["/no/such/program"]])
def test_a_command_that_cannot_be_is_refused(pod: Pod, container: str, command: list[str]) -> None:
    with pytest.raises(RefusedError) as refused:
        pod.kubelet(v1.ExecSyncRequest(container_id=container, cmd=command))
    assert refused.value.code == "INVALID_ARGUMENT"


def test_a_container_that_does_not_run_takes_no_command(pod: Pod) -> None:
    made = pod.create("main", "true")
    with pytest.raises(RefusedError) as refused:
        pod.kubelet(v1.ExecSyncRequest(container_id=made, cmd=["true"]))
    assert refused.value.code == "FAILED_PRECONDITION"
