"""Namespaces of a container: its own, never those of who has its pid by now."""

import os
import subprocess
import sys

import pytest

from orlop.engine.joining import open_namespace, open_namespaces
from orlop.errors import WrongStateError
from orlop.model.container import Container, ContainerOptions, Status


def container(pid: int) -> Container:
    return Container(
        id="c" * 64,
        name="cc",
        options=ContainerOptions(),
        image="host",
        image_name="host",
        created_ns=1,
        status=Status.RUNNING,
        pid=pid,
    )


@pytest.mark.parametrize("kind", ["net", "pid", "mnt"])
def test_namespace_of_who_has_the_pid_now_is_not_given(kind: str) -> None:
    """As when the container ended and its number went to another: here, to us."""
    with (
        pytest.raises(WrongStateError, match="is not running"),
        open_namespace(container(os.getpid()), kind),
    ):
        pass


def test_no_descriptor_is_left_where_one_is_refused() -> None:
    before = os.listdir("/proc/self/fd")
    owners = {"network": container(os.getpid()), "ipc": container(1)}
    with pytest.raises(WrongStateError), open_namespaces(owners):
        pass
    assert os.listdir("/proc/self/fd") == before


def test_container_that_has_ended_has_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with pytest.raises(WrongStateError), open_namespace(container(gone.pid), "net"):
        pass
