"""The filter is in force in the program, and does not get in the way of becoming it."""

from typing import Any

import pytest

from orlop.runtime import seccomp_default, seccomp_profile
from tests.integration.runtime.box import CAPABILITIES, Box

#: What init does after or around the installation of a filter, and a program need not.
SETUP = ["capset", "capget", "prctl", "setuid", "setgroups", "mount", "unshare", "pivot_root"]


def deny(*names: str) -> dict[str, Any]:
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }


@pytest.mark.parametrize("forgo", [False, True])
def test_dockers_default_policy_runs_programs_and_denies_what_it_should(
    box: Box, *, forgo: bool
) -> None:
    box.linux["seccomp"] = seccomp_profile.resolve(seccomp_default.profile(), CAPABILITIES)
    box.process["noNewPrivileges"] = forgo
    assert box.sh("grep Seccomp: /proc/self/status").split() == ["Seccomp:", "2"]
    assert "not permitted" in box.run("unshare", "-m", "true").output
    running = box.sleeping()
    assert box.exec(running, "grep", "Seccomp:", "/proc/self/status").output.split()[1] == "2"


def test_without_privileges_a_filter_may_deny_all_that_init_did(box: Box) -> None:
    box.process["noNewPrivileges"] = True
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.linux["seccomp"] = deny(*SETUP)
    assert box.sh("id -u") == "1000\n"


def test_with_privileges_a_filter_may_deny_all_but_the_last_capset(box: Box) -> None:
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.linux["seccomp"] = deny(*(name for name in SETUP if not name.startswith("cap")))
    assert box.sh("id -u") == "1000\n"


def test_exec_cannot_escape_the_filter(box: Box) -> None:
    box.linux["seccomp"] = deny("mkdir", "mkdirat")
    running = box.sleeping()
    assert box.exec(running, "mkdir", "/tmp/x").status != 0
