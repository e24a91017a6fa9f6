"""Processors, priorities and memory nodes, as the kernel tells of them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import InvalidArgumentError, OrlopError
from tests.integration.runtime.box import Box


def stat(box: Box) -> list[str]:
    """Return the fields of /proc/1/stat from the third."""
    return box.sh("cat /proc/1/stat").rpartition(")")[2].split()


@pytest.mark.parametrize(
    ("policy", "number"), [("SCHED_OTHER", "0"), ("SCHED_BATCH", "3"), ("SCHED_IDLE", "5")]
)
def test_the_scheduling_policy_is_set(box: Box, policy: str, number: str) -> None:
    box.process["scheduler"] = {"policy": policy, "nice": 7 if policy != "SCHED_IDLE" else 0}
    fields = stat(box)
    assert fields[38] == number
    assert fields[16] == ("0" if policy == "SCHED_IDLE" else "7")


@pytest.mark.parametrize(
    ("scheduler", "field"),
    [
        ({"policy": "SCHED_NONE"}, "policy"),
        ({"policy": ""}, "policy"),
        ({"policy": "SCHED_OTHER", "nice": 20}, "nice"),
        ({"policy": "SCHED_OTHER", "priority": 1}, "priority"),
        ({"policy": "SCHED_FIFO", "priority": 100}, "priority"),
        ({"policy": "SCHED_BATCH", "runtime": 1}, "runtime"),
        ({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NONE"]}, r"flags\[0\]"),
    ],
)
def test_a_scheduler_that_cannot_be_is_refused_by_its_field(
    box: Box, scheduler: dict[str, Any], field: str
) -> None:
    box.process["scheduler"] = {**scheduler, "flags": scheduler.get("flags", [])}
    with pytest.raises(InvalidArgumentError, match=rf"process\.scheduler.*{field}"):
        box.run("true")


@pytest.mark.parametrize(
    ("section", "name", "field"),
    [
        ("process", "scheduler", "policy"),
        ("process", "ioPriority", "class"),
        ("linux", "memoryPolicy", "mode"),
        ("linux", "personality", "domain"),
    ],
)
def test_an_empty_object_is_refused_by_the_field_that_it_lacks(
    box: Box, section: str, name: str, field: str
) -> None:
    box.config[section][name] = {}  # type: ignore[literal-required]  # one of the two
    with pytest.raises(InvalidArgumentError, match=rf"{section}\.{name}\.{field} ''"):
        box.run("true")


def test_an_io_priority_is_set(box: Box) -> None:
    box.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    assert box.sh("ionice -p $$").strip() == "best-effort: prio 6"


@pytest.mark.parametrize(
    ("priority", "field"),
    [
        ({"class": "x", "priority": 1}, "class"),
        ({"class": "IOPRIO_CLASS_BE", "priority": 8}, "priority"),
    ],
)
def test_an_io_priority_that_cannot_be_is_refused_by_its_field(
    box: Box, priority: dict[str, Any], field: str
) -> None:
    box.process["ioPriority"] = priority
    with pytest.raises(InvalidArgumentError, match=rf"process\.ioPriority\.{field}"):
        box.run("true")


def test_only_later_processes_have_the_affinity_for_them(box: Box) -> None:
    last = max(os.sched_getaffinity(0))
    box.process["execCPUAffinity"] = {"initial": "0", "final": str(last)}
    running = box.sleeping()
    assert os.sched_getaffinity(running.pid) == os.sched_getaffinity(0)
    found = box.exec(running, "grep", "Cpus_allowed_list", "/proc/self/status").output.split()
    assert found[1] == str(last)


@pytest.fixture
def processors() -> Iterator[list[int]]:
    """Return this process's processors, and leave it the first of them for a while."""
    before = sorted(os.sched_getaffinity(0))
    if len(before) < 2:
        pytest.skip("there is one processor")
    os.sched_setaffinity(0, before[:1])
    try:
        yield before
    finally:
        os.sched_setaffinity(0, before)


def test_a_container_may_use_processors_that_its_caller_may_not(
    box: Box, processors: list[int]
) -> None:
    running = box.sleeping()
    assert {*processors} <= os.sched_getaffinity(running.pid)
    assert int(box.exec(running, "nproc").output) >= len(processors)
    box.process["execCPUAffinity"] = {"initial": str(processors[0])}
    assert int(box.exec(running, "nproc").output) >= len(processors)


def test_a_container_is_on_the_processors_of_its_cpuset_and_not_of_its_caller(
    box: Box, processors: list[int]
) -> None:
    first, *_, last = processors
    box.linux["resources"] = {"cpu": {"cpus": str(last)}}
    running = box.sleeping()
    assert os.sched_getaffinity(running.pid) == {last}
    assert running.cgroup is not None
    running.cgroup.update({"cpu": {"cpus": f"{first},{last}"}})
    assert os.sched_getaffinity(running.pid) == {first, last}


@pytest.mark.parametrize("text", ["x", "1-", "3-1", "-1", "1,,2", "99999", "0x1"])
def test_a_list_of_processors_that_is_none_is_refused_by_its_field(box: Box, text: str) -> None:
    box.process["execCPUAffinity"] = {"final": text}
    with pytest.raises(InvalidArgumentError, match=r"process\.execCPUAffinity\.final"):
        box.run("true")


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
        ({"mode": "MPOL_LOCAL"}, "local"),
    ],
)
def test_the_memory_policy_is_the_programs_and_that_of_later_processes(
    box: Box, policy: dict[str, Any], shown: str
) -> None:
    box.linux["memoryPolicy"] = policy
    running = box.sleeping()
    lines = Path(f"/proc/{running.pid}/numa_maps").read_text().splitlines()
    assert {line.split()[1] for line in lines if "stack" in line} == {shown}
    output = box.exec(running, "grep", "stack", "/proc/self/numa_maps").output
    assert output.split()[1] == shown


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"mode": "MPOL_NONE"}, "mode"),
        ({"mode": "MPOL_BIND", "nodes": "a"}, "nodes"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NONE"]}, "flags"),
    ],
)
def test_a_memory_policy_that_cannot_be_is_refused_by_its_field(
    box: Box, policy: dict[str, Any], field: str
) -> None:
    box.linux["memoryPolicy"] = policy
    with pytest.raises(InvalidArgumentError, match=rf"linux\.memoryPolicy\.{field}"):
        box.run("true")


def test_a_memory_policy_that_the_kernel_refuses_fails_the_start(box: Box) -> None:
    box.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "700"}
    with pytest.raises(OrlopError, match=r"linux\.memoryPolicy.*invalid argument"):
        box.run("true")


def test_the_personality_is_the_programs_and_that_of_later_processes(box: Box) -> None:
    box.linux["personality"] = {"domain": "LINUX32"}
    running = box.sleeping()
    assert Path(f"/proc/{running.pid}/personality").read_text() == "00000008\n"
    assert box.exec(running, "cat", "/proc/self/personality").output == "00000008\n"


def test_there_are_no_flags_of_a_personality(box: Box) -> None:
    box.linux["personality"] = {"domain": "LINUX", "flags": ["x"]}
    with pytest.raises(InvalidArgumentError, match=r"linux\.personality\.flags"):
        box.run("true")


@pytest.mark.parametrize(
    ("offsets", "field"),
    [({"realtime": {"secs": 1}}, "realtime"), ({"monotonic": {"nanosecs": 10**9}}, "nanosecs")],
)
def test_a_time_offset_that_cannot_be_is_refused_by_its_field(
    box: Box, offsets: dict[str, Any], field: str
) -> None:
    box.linux["namespaces"].append({"type": "time"})
    box.linux["timeOffsets"] = offsets
    with pytest.raises(InvalidArgumentError, match=rf"linux\.timeOffsets.*{field}"):
        box.run("true")
