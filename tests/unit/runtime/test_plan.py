"""What is refused before there is a child, and what the rest becomes."""

from typing import Any

import pytest

from orlop.errors import (
    CommandNotFoundError,
    InvalidArgumentError,
    OrlopError,
    PermissionDeniedError,
)
from orlop.kernel.namespaces import Namespace
from orlop.runtime import failure
from orlop.runtime.failure import Kind, StepError
from orlop.runtime.plan import MountKind, plan_mount, plan_namespaces, plan_process, warnings
from orlop.runtime.sysctl import plan_sysctls

OWN = plan_namespaces({"namespaces": [{"type": "network"}, {"type": "ipc"}]})


@pytest.mark.parametrize(
    "process",
    [
        {},
        {"args": [""]},
        {"args": ["a\0b"]},
        {"args": ["a"], "cwd": "relative"},
        {"args": ["a"], "rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]},
        {"args": ["a"], "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2},
        {"args": ["a"], "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1 << 64}]},
        {"args": ["a"], "oomScoreAdj": 1001},
        {"args": ["a"], "env": ["A"]},
        {"args": ["a"], "env": ["=b"]},
        {"args": ["a"], "consoleSize": {"height": -1, "width": 1}},
        {"args": ["a"], "user": {"umask": 0o1000}},
        {"args": ["a"], "rlimits": [{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]},
        {"args": ["a"], "rlimits": [{"type": "getrlimit", "soft": 1, "hard": 1}]},
        {"args": ["a"], "user": {"uid": -1}},
        {"args": ["a"], "user": {"uid": 0, "additionalGids": [1 << 31]}},
        {"args": ["a"], "ioPriority": {"class": "x"}},
        {"args": ["a"], "scheduler": {"policy": "SCHED_NONE"}},
    ],
)
def test_a_process_that_cannot_be_is_refused(process: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        plan_process(process)


def test_a_capability_that_nobody_has_is_ignored_with_a_warning() -> None:
    process: Any = {"args": ["a"], "capabilities": {"bounding": ["CAP_NONE", "CAP_CHOWN"]}}
    assert plan_process(process).capabilities.bounding == 1
    assert ["CAP_NONE" in text for text in warnings({"process": process})] == [True]


@pytest.mark.parametrize(
    "linux",
    [
        {"namespaces": [{"type": "none"}]},
        {"namespaces": [{"type": "pid"}, {"type": "pid"}]},
        {"namespaces": [{"type": "user"}]},
        {"timeOffsets": {"monotonic": {"secs": 1}}},
        {"uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]},
        {"namespaces": [{"type": "pid", "path": "relative"}]},
        {
            "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
        },
        {
            "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1 << 32}],
            "gidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
        },
    ],
)
def test_namespaces_that_cannot_be_are_refused(linux: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        plan_namespaces(linux)


def test_namespaces_are_new_or_joined() -> None:
    planned = plan_namespaces({"namespaces": [{"type": "pid"}, {"type": "uts", "path": "/x"}]})
    assert planned.new == Namespace.PID
    assert planned.join == ((Namespace.UTS, "/x"),)


def test_a_mount_is_a_bind_by_its_options_or_its_type() -> None:
    assert plan_mount({"destination": "/a", "options": ["rbind"]}, "/b").kind is MountKind.BIND
    assert plan_mount({"destination": "/a", "type": "bind", "source": "c"}, "/b").source == "/b/c"
    assert plan_mount({"destination": "a", "type": "tmpfs"}, "/b").destination == "/a"
    assert plan_mount({"destination": "/a", "type": "cgroup2"}, "/b").kind is MountKind.CGROUP


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("kernel.shmmax", "kernel/shmmax"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
    ],
)
def test_a_sysctl_is_named_with_dots_or_slashes(key: str, path: str) -> None:
    assert plan_sysctls({key: "1"}, OWN) == ((path, "1"),)


@pytest.mark.parametrize(
    "key", ["", "net", "net..x", "net/../x", "net./x", "kernel.hostname", "vm.x", "user.max"]
)
def test_a_sysctl_that_is_not_the_containers_is_refused(key: str) -> None:
    with pytest.raises(InvalidArgumentError):
        plan_sysctls({key: "1"}, OWN)


def test_a_report_says_the_step_and_the_kernels_reason_in_a_clause() -> None:
    data = failure.encode(
        "make_root", FileNotFoundError(2, "open_tree: No such file or directory", "/x")
    )
    error = failure.decode("cannot start container abc", data)
    assert str(error) == (
        "cannot start container abc: make root: open_tree: no such file or directory: '/x'"
    )


def test_a_report_picks_the_class_that_a_caller_acts_on() -> None:
    missing = failure.encode("find_program", StepError("x", kind=Kind.NOT_FOUND))
    assert type(failure.decode("a", missing)) is CommandNotFoundError
    refused = failure.encode("set_names", PermissionError(1, "Operation not permitted"))
    assert type(failure.decode("a", refused)) is PermissionDeniedError


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"null", b'"x"'])
def test_a_report_that_is_none_is_an_error_too(data: bytes) -> None:
    assert type(failure.decode("abc", data)) is OrlopError
