import errno
from typing import Any

import pytest

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.oci import Seccomp
from orlop.runtime import seccomp_default
from orlop.runtime.capability_sets import DEFAULT
from orlop.runtime.seccomp_profile import resolve

X86 = {"machine": "x86_64", "kernel": "6.18.1-test"}


def default_policy(*more: str, machine: str = "x86_64") -> Seccomp:
    return resolve(seccomp_default.profile(), DEFAULT | set(more), machine=machine, kernel="6.18.1")


def action(policy: Seccomp, call: str) -> list[tuple[str, int | None]]:
    return [
        (rule["action"], rule.get("errnoRet"))
        for rule in policy["syscalls"]
        if call in rule["names"]
    ]


def rule(**conditions: Any) -> dict[str, Any]:
    return {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", **conditions}


def applies(**conditions: Any) -> bool:
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule(**conditions)]}
    return bool(resolve(profile, {"CAP_CHOWN"}, machine="x86_64", kernel="5.10.3-x")["syscalls"])


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_BPF"]}}, False),
        ({"excludes": {"caps": ["CAP_CHOWN", "CAP_BPF"]}}, False),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "5.9"}}, True),
        ({"includes": {"minKernel": "5.11"}}, False),
        ({"excludes": {"minKernel": "5.10"}}, False),
    ],
)
def test_a_rule_applies_where_its_conditions_hold(
    conditions: dict[str, Any], *, expected: bool
) -> None:
    assert applies(**conditions) == expected


def test_the_machines_architectures_come_from_arch_map() -> None:
    assert default_policy()["architectures"] == [
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
    ]
    assert default_policy(machine="aarch64")["architectures"][0] == "SCMP_ARCH_AARCH64"


def test_new_namespaces_come_with_cap_sys_admin_only() -> None:
    assert action(default_policy(), "unshare") == []
    assert action(default_policy(), "clone3") == [("SCMP_ACT_ERRNO", errno.ENOSYS)]
    admin = default_policy("CAP_SYS_ADMIN")
    assert action(admin, "unshare") == [("SCMP_ACT_ALLOW", None)]
    assert action(admin, "clone3") == [("SCMP_ACT_ALLOW", None)]


@pytest.mark.parametrize(
    "call", ["keyctl", "add_key", "userfaultfd", "kexec_load", "io_uring_setup"]
)
def test_no_capability_brings_what_reaches_the_hosts_kernel(call: str) -> None:
    assert action(default_policy("CAP_SYS_ADMIN"), call) == []


def test_an_old_profile_with_one_name_a_rule_is_read() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"name": "chroot", "action": "SCMP_ACT_ERRNO", "args": None}],
    }
    assert resolve(profile, ())["syscalls"] == [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO"}]


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"defaultAction": 3},
        {"defaultAction": "x", "syscalls": "open"},
        {"defaultAction": "x", "syscalls": [{"names": [], "action": "x"}]},
        {"defaultAction": "x", "syscalls": [{"names": ["open"]}]},
        {"defaultAction": "x", "syscalls": [rule(args=[{"index": -1, "op": "x"}])]},
        {"defaultAction": "x", "syscalls": [rule(includes={"minKernel": "new"})]},
        {"defaultAction": "x", "architectures": ["a"], "archMap": [{"architecture": "b"}]},
    ],
)
def test_what_is_no_profile_is_refused(profile: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        resolve(profile, (), machine="x86_64", kernel="6.1.0")


def test_a_profile_for_an_agent_is_the_runtimes_alone() -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent", "syscalls": []}
    with pytest.raises(UnsupportedError, match="listenerPath"):
        resolve(profile, ())
