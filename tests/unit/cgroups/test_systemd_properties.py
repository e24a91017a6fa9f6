from typing import Any

import pytest

from orlop.errors import InvalidArgumentError
from orlop.model.oci import Resources
from orlop.runtime.cgroups.systemd import parse
from orlop.runtime.cgroups.systemd_manager import _escaped, _sockets
from orlop.runtime.cgroups.systemd_properties import for_annotations, for_resources

MIB = 1 << 20
NONE = (1 << 64) - 1
V1 = frozenset({"cpu", "cpuset", "memory", "blkio", "pids", "devices"})
V2: frozenset[str] = frozenset()


def told(resources: Resources, v1: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, _, value in for_resources(resources, v1=v1)}


@pytest.mark.parametrize(
    ("resources", "v1", "v2"),
    [
        ({}, {}, {}),
        ({"memory": {"limit": MIB}}, {"MemoryLimit": MIB}, {"MemoryMax": MIB}),
        (
            {"memory": {"limit": -1}},
            {"MemoryLimit": NONE},
            {"MemoryMax": NONE, "MemorySwapMax": NONE},
        ),
        (
            {"memory": {"limit": MIB, "swap": 3 * MIB, "reservation": 5}},
            {"MemoryLimit": MIB},
            {"MemoryMax": MIB, "MemorySwapMax": 2 * MIB, "MemoryLow": 5},
        ),
        ({"cpu": {"shares": 1024}}, {"CPUShares": 1024}, {"CPUWeight": 100}),
        ({"cpu": {"shares": 1024, "idle": 1}}, {"CPUShares": 1024}, {"CPUWeight": 0}),
        (
            {"cpu": {"quota": 33333, "period": 200000}},
            {"CPUQuotaPeriodUSec": 200000, "CPUQuotaPerSecUSec": 170000},
            {"CPUQuotaPeriodUSec": 200000, "CPUQuotaPerSecUSec": 170000},
        ),
        ({"cpu": {"quota": -1}}, {"CPUQuotaPerSecUSec": NONE}, {"CPUQuotaPerSecUSec": NONE}),
        (
            {"cpu": {"cpus": "0-2,9", "mems": "1"}},
            {},
            {"AllowedCPUs": b"\7\2", "AllowedMemoryNodes": b"\2"},
        ),
        ({"pids": {"limit": 5}}, {"TasksMax": 5}, {"TasksMax": 5}),
        ({"pids": {"limit": 0}}, {"TasksMax": 1}, {"TasksMax": 1}),
        ({"pids": {"limit": -1}}, {"TasksMax": NONE}, {"TasksMax": NONE}),
        ({"blockIO": {"weight": 500}}, {"BlockIOWeight": 500}, {"IOWeight": 500}),
        (
            {"unified": {"memory.high": "max", "cpu.max": "50000 100000", "io.max": "x"}},
            {},
            {"MemoryHigh": NONE, "CPUQuotaPerSecUSec": 500000, "CPUQuotaPeriodUSec": 100000},
        ),
        ({"unified": {"cpuset.cpus": "8"}}, {}, {"AllowedCPUs": b"\0\1"}),
    ],
)
def test_limits_are_said_in_systemds_words(
    resources: Resources, v1: dict[str, Any], v2: dict[str, Any]
) -> None:
    assert told(resources, V1) == v1
    assert told(resources, V2) == v2


def test_devices_are_named_by_number_or_driver() -> None:
    wanted: Resources = {"devices": [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
        {"allow": True, "type": "c", "major": 136, "access": "rwm"},
        {"allow": True, "type": "b", "minor": 7, "access": "r"},
    ]}  # fmt: skip
    properties = for_resources(wanted, v1=V2)
    assert [(name, value) for name, _, value in properties] == [
        ("DevicePolicy", "strict"),
        ("DeviceAllow", []),
        ("DeviceAllow", [("char-*", "m"), ("/dev/char/1:3", "rw"), ("char-pts", "rwm")]),
    ]


def test_a_policy_that_allows_all_is_left_to_the_cgroup() -> None:
    all_: Resources = {"devices": [{"allow": True, "access": "rwm"}]}
    assert told(all_, V2) == {"DevicePolicy": "auto", "DeviceAllow": []}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("TimeoutStopUSec", "uint64 7", ("TimeoutStopUSec", "t", 7)),
        ("TimeoutStopUSec", "18446744073709551615", ("TimeoutStopUSec", "t", NONE)),
        ("TimeoutStopSec", "1.5", ("TimeoutStopUSec", "t", 1500000)),
        ("TimeoutStopSec", "uint32 3", ("TimeoutStopUSec", "t", 3000000)),
        ("CollectMode", "'inactive-or-failed'", ("CollectMode", "s", "inactive-or-failed")),
        ("Description", '"a b"', ("Description", "s", "a b")),
        ("Description", "''", ("Description", "s", "")),
        ("SendSIGKILL", " false ", ("SendSIGKILL", "b", False)),
        ("KillSignal", "int32 15", ("KillSignal", "i", 15)),
    ],
)
def test_annotations_are_read_as_gvariants(name: str, text: str, expected: object) -> None:
    (found,) = for_annotations({f"org.systemd.property.{name}": text, "x": "y"})
    assert found == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, "'x'") for name in (
            "OnFailure", "OnSuccess", "Wants", "Requires", "Conflicts", "Before", "After", "Slice",
            "PIDs", "Delegate", "DevicePolicy", "DeviceAllow", "MemoryMax", "TasksMax", "User",
            "FailureAction", "SuccessAction", "JobTimeoutAction", "ExecStart", "BPFProgram",
            "killMode", "KillMode ", "", "../x",
        )),
        ("KillMode", "mixed"),
        ("KillMode", "'a' 'b'"),
        ("KillMode", r"'a\'b'"),
        ("KillSignal", "'SIGTERM'"),
        ("KillSignal", "99999999999"),
        ("TimeoutStopUSec", "-1"),
        ("TimeoutStopUSec", "18446744073709551616"),
        ("TimeoutStopUSec", "1.5"),
        ("SendSIGHUP", "1"),
    ],
)  # fmt: skip
def test_an_annotation_can_do_nothing_else(name: str, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"annotation org\.systemd\.property\."):
        for_annotations({f"org.systemd.property.{name}": text})


@pytest.mark.parametrize("text", ["", "a", "1-", "3-1", "-1", "1,,2", "99999999"])
def test_a_set_of_processors_is_a_list_of_numbers(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no list of numbers"):
        for_resources({"unified": {"cpuset.cpus": text}}, v1=V2)


@pytest.mark.parametrize(
    ("path", "user", "expected"),
    [
        ("", False, ("system.slice", "orlop-id.scope")),
        ("", True, ("user.slice", "orlop-id.scope")),
        ("machine.slice:docker:abc", False, ("machine.slice", "docker-abc.scope")),
        (":docker:abc", False, ("system.slice", "docker-abc.scope")),
        ("-.slice::abc", False, ("-.slice", "-abc.scope")),
    ],
)
def test_a_path_names_slice_and_unit(path: str, user: bool, expected: tuple[str, str]) -> None:
    assert parse(path, "id", user=user) == expected


@pytest.mark.parametrize(
    "path",
    ["/a/b", "a:b", "a.slice:b:c:d", "a:b:c", "a/b.slice:x:y", "a.slice:x:", "a.slice:../x:y",
     "a.slice:x:y z", "a.slice:x:" + "y" * 300],
)  # fmt: skip
def test_what_is_no_such_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse(path, "id", user=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("unix:path=/run/x", ["/run/x"]),
        ("unix:guid=1,path=/run/a%20b", ["/run/a b"]),
        ("unix:abstract=/tmp/x,guid=1;unix:path=/y", ["\0/tmp/x", "/y"]),
        ("tcp:host=x,port=1", []),
    ],
)
def test_addresses_of_sockets_are_found(text: str, expected: list[str]) -> None:
    assert _sockets(text) == expected


def test_a_units_name_in_an_objects_path_is_letters_and_digits() -> None:
    assert _escaped("orlop-a.b1.scope") == "orlop_2da_2eb1_2escope"
