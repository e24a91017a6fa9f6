"""Policies do in a container what they do with runc."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.oci_runtime.program import OCIBundle, Program
from tests.integration.seccomp.agent import agent

RUNC = shutil.which("runc") or shutil.which("runc", path="/usr/sbin:/sbin") or ""
MKDIR = 83

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not RUNC or os.uname().machine != "x86_64",
    reason="needs root and runc, on x86_64",
)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Program, Program]]:
    """`orlop-runtime` and runc."""
    (tmp_path / "runc").mkdir()
    made = Program(tmp_path), Program(tmp_path / "runc", script=Path(RUNC))
    yield made
    for program in made:
        program.close()


@pytest.fixture
def bundle(tmp_path: Path) -> OCIBundle:
    return OCIBundle(tmp_path / "bundle")


def rule(*names: str, action: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, **more}


def argument(index: int, value: int, op: str, second: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": second, "op": op}


#: kill(0, signal) without a signal to send: 0 to 64 name what would be sent to nobody.
TRIES = """
mkdir /tmp/x 2>&1; rmdir /tmp/x 2>/dev/null
for number in 0 1 2 3 4; do kill -$number 12345 2>&1; done
chmod 755 /tmp 2>&1; chmod 700 /tmp 2>&1
hostname other 2>&1; true
"""

ALL = ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT"]
POLICIES: dict[str, list[dict[str, Any]]] = {
    "one call": [rule("mkdir", "mkdirat", errnoRet=errno.ENOTTY)],
    "unknown names": [rule("mkdir", "no_such_call_at_all")],
    "the same rule twice": [rule("mkdir", "mkdirat"), rule("mkdir", "mkdirat")],
    "two errnos": [rule("kill", args=[argument(1, n, "SCMP_CMP_EQ")], errnoRet=number)
                   for n, number in ((1, errno.ENOTTY), (2, errno.EDOM))],
    "one argument, two values": [rule("kill", args=[argument(1, 1, "SCMP_CMP_EQ"),
                                                    argument(1, 3, "SCMP_CMP_EQ")])],
    "two arguments": [rule("kill", args=[argument(0, 12345, "SCMP_CMP_EQ"),
                                         argument(1, 2, "SCMP_CMP_GE")])],
    "masked": [rule("kill", args=[argument(1, 1, "SCMP_CMP_MASKED_EQ", 1)])],
    "with a default that allows": [rule("mkdir", action="SCMP_ACT_ALLOW")],
    "log": [rule("mkdir", action="SCMP_ACT_LOG")],
    "trace without a tracer": [rule("mkdir", "mkdirat", action="SCMP_ACT_TRACE", errnoRet=5)],
    **{f"operator {op}": [rule("kill", args=[argument(1, 2, op)])] for op in ALL},
}  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_does_the_same(
    both: tuple[Program, Program], bundle: OCIBundle, name: str
) -> None:
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": POLICIES[name]}
    ours, theirs = (program.run(bundle, "sh", "-c", TRIES) for program in both)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    assert ours.stdout


@pytest.mark.parametrize("action", ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"])
def test_a_deadly_policy_ends_with_the_same_code(
    both: tuple[Program, Program], bundle: OCIBundle, action: str
) -> None:
    calls = rule("mkdir", "mkdirat", action=f"SCMP_ACT_{action}")
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [calls]}
    ours, theirs = (program.run(bundle, "mkdir", "/tmp/x") for program in both)
    assert ours.returncode == theirs.returncode == 128 + 31


def test_a_notified_call_is_answered_as_with_runc(
    both: tuple[Program, Program], bundle: OCIBundle, tmp_path: Path
) -> None:
    bundle.config["annotations"] = {"key": "value"}
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [rule("mkdir", "mkdirat", action="SCMP_ACT_NOTIFY")],
        "listenerPath": str(tmp_path / "agent"),
        "listenerMetadata": "for the agent",
    }
    bundle.process["args"] = ["sleep", "600"]
    told, wrote = [], []
    with agent(tmp_path / "agent", {MKDIR: errno.ENOMEDIUM}) as answering:
        for program in both:
            name = program.create(bundle)
            told.append(answering.state())
            assert told[-1]["pid"] == told[-1]["state"]["pid"] == program.pid(name)
            program.ok("start", name)
            done = program.call("exec", name, "mkdir", "/tmp/x")
            wrote.append((done.returncode, done.stdout, done.stderr.splitlines()[0]))
            told.append(answering.state())
            assert told[-1]["state"]["pid"] == program.pid(name) != told[-1]["pid"]
    assert wrote[0] == wrote[1]
    for ours, theirs in zip(told[:2], told[2:], strict=True):
        assert without_ids(ours) == without_ids(theirs)


def without_ids(told: dict[str, Any]) -> dict[str, Any]:
    """Leave out what differs from container to container and from program to program."""
    state = {k: v for k, v in told["state"].items() if k not in ("id", "pid", "ociVersion")}
    return {k: v for k, v in told.items() if k not in ("pid", "ociVersion")} | {"state": state}
