"""Policies loaded for real, in a child that then tries the calls."""

import ctypes
import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.kernel import seccomp as kernel
from orlop.model.oci import Seccomp
from orlop.runtime import seccomp, seccomp_default
from orlop.runtime.capability_sets import DEFAULT
from orlop.runtime.seccomp_profile import resolve

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or os.uname().machine != "x86_64", reason="needs root on x86_64"
)

SOCKET, CLONE, UNSHARE, CLONE3, KEYCTL = 41, 56, 272, 435, 250
PERSONALITY, GETPPID, GETPID, NEWER_THAN_ANY = 135, 110, 39, 2000
NEWUSER = 0x10000000
syscall = ctypes.CDLL(None, use_errno=True).syscall
syscall.argtypes = [ctypes.c_long] * 7
syscall.restype = ctypes.c_long


def call(number: int, *arguments: int) -> int:
    """Return 0, or the errno that the kernel gave."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    return ctypes.get_errno() if syscall(number, *padded) == -1 else 0


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORLOP_RUN", str(tmp_path))
    monkeypatch.setattr(seccomp, "_compiled", {})


def under(policy: Seccomp, work: Callable[[], Any]) -> Any:
    """Return what *work* returns under *policy*; a signal's negative number if it died."""
    filter_ = seccomp.compile(policy)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            kernel.load(filter_.program, filter_.flags)
            os.write(writer, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    text = os.read(reader, 65536)
    os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(text) if text else code


def default(*more: str) -> Seccomp:
    return resolve(seccomp_default.profile(), DEFAULT | set(more))


def one_rule(action: str, **more: Any) -> Seccomp:
    rule = {"names": ["getppid"], "action": action, **more}
    return cast(Seccomp, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})


@pytest.mark.parametrize("family", [38, 40, 38 | 1 << 32, 40 | 1 << 32, 1 << 32])
def test_the_hosts_crypto_and_vm_sockets_are_denied_however_they_are_spelled(family: int) -> None:
    assert under(default(), lambda: call(SOCKET, family, 5, 0)) == errno.EPERM


@pytest.mark.parametrize("family", [1, 2, 10, 16])
def test_ordinary_sockets_are_allowed(family: int) -> None:
    assert under(default(), lambda: call(SOCKET, family, 2, 0)) == 0


def test_a_new_user_namespace_is_denied_by_any_call() -> None:
    def attempts() -> list[int]:
        return [call(UNSHARE, NEWUSER), call(CLONE, NEWUSER | signal.SIGCHLD), call(CLONE3, 0, 0)]

    assert under(default(), attempts) == [errno.EPERM, errno.EPERM, errno.ENOSYS]


def test_with_cap_sys_admin_a_namespace_can_be_made() -> None:
    assert under(default("CAP_SYS_ADMIN"), lambda: call(UNSHARE, 0)) == 0


def test_processes_and_threads_can_still_be_made() -> None:
    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert under(default(), fork) == 7


def test_the_hosts_keys_are_out_of_reach() -> None:
    assert under(default(), lambda: call(KEYCTL, 0)) == errno.EPERM


def test_a_personality_is_one_of_those_that_are_known() -> None:
    def attempts() -> list[int]:
        return [call(PERSONALITY, 0xFFFFFFFF), call(PERSONALITY, 0x40000)]

    assert under(default(), attempts) == [0, errno.EPERM]


def test_a_call_newer_than_the_policy_does_not_exist() -> None:
    assert under(default(), lambda: call(NEWER_THAN_ANY)) == errno.ENOSYS


@pytest.mark.parametrize(
    ("action", "number", "expected"),
    [
        ("SCMP_ACT_ERRNO", None, errno.EPERM),
        ("SCMP_ACT_ERRNO", errno.ENOTTY, errno.ENOTTY),
        ("SCMP_ACT_TRACE", 1, errno.ENOSYS),
        ("SCMP_ACT_LOG", None, 0),
        ("SCMP_ACT_ALLOW", None, 0),
        ("SCMP_ACT_KILL", None, -signal.SIGSYS),
        ("SCMP_ACT_KILL_PROCESS", None, -signal.SIGSYS),
        ("SCMP_ACT_TRAP", None, -signal.SIGSYS),
    ],
)
def test_each_action_does_what_it_says(action: str, number: int | None, expected: int) -> None:
    more = {} if number is None else {"errnoRet": number}
    assert under(one_rule(action, **more), lambda: call(GETPPID)) == expected


@pytest.mark.parametrize(
    ("op", "value", "second", "denied"),
    [
        ("SCMP_CMP_EQ", 5, 0, [5]),
        ("SCMP_CMP_NE", 5, 0, [4, 6]),
        ("SCMP_CMP_LT", 5, 0, [4]),
        ("SCMP_CMP_LE", 5, 0, [4, 5]),
        ("SCMP_CMP_GE", 5, 0, [5, 6]),
        ("SCMP_CMP_GT", 5, 0, [6]),
        ("SCMP_CMP_MASKED_EQ", 0b101, 0b100, [4, 6]),
    ],
)
def test_each_operator_compares_as_it_says(
    op: str, value: int, second: int, denied: list[int]
) -> None:
    argument = {"index": 0, "value": value, "valueTwo": second, "op": op}
    policy = one_rule("SCMP_ACT_ERRNO", args=[argument])

    def refused() -> list[int]:
        return [number for number in (4, 5, 6) if call(GETPPID, number)]

    assert under(policy, refused) == denied


def test_two_tests_of_one_argument_are_alternatives() -> None:
    arguments = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in (4, 6)]
    policy = one_rule("SCMP_ACT_ERRNO", args=arguments)
    assert under(policy, lambda: [bool(call(GETPPID, n)) for n in (4, 5, 6)]) == [True, False, True]


def test_names_that_nobody_knows_are_left_out() -> None:
    policy: Seccomp = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["no_such_call", "getppid"], "action": "SCMP_ACT_ERRNO"}],
    }
    assert under(policy, lambda: [call(GETPPID), call(GETPID)]) == [errno.EPERM, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"defaultAction": "SCMP_ACT_PERHAPS"},
        {"flags": ["SECCOMP_FILTER_FLAG_MAYBE"]},
        {"architectures": ["SCMP_ARCH_VAX"]},
        {"syscalls": [{"names": ["getppid"], "action": "no"}]},
        {"syscalls": [{"names": ["dup"], "action": "SCMP_ACT_ERRNO",
                       "args": [{"index": 9, "value": 0, "op": "SCMP_CMP_EQ"}]}]},
        {"syscalls": [{"names": ["dup"], "action": "SCMP_ACT_ERRNO",
                       "args": [{"index": 0, "value": 0, "op": "=="}]}]},
    ],
)  # fmt: skip
def test_what_is_unknown_is_refused(change: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        seccomp.compile(one_rule("SCMP_ACT_LOG") | change)


def test_notify_is_said_to_be_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="NOTIFY"):
        seccomp.compile(one_rule("SCMP_ACT_NOTIFY"))


def test_a_filter_is_compiled_once_and_then_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = seccomp.compile(default())
    (cached,) = (tmp_path / "seccomp").iterdir()
    assert cached.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(seccomp, "_compiled", {})
    cached.write_bytes(b"\x06\0\0\0\0\0\xff\x7f")  # shows that the file is what counts
    assert seccomp.compile(default()).program != first.program


@pytest.mark.parametrize("spoil", ["writable", "owner", "folder", "length", "link"])
def test_a_cache_that_others_may_have_written_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    first = seccomp.compile(default())
    (cached,) = (tmp_path / "seccomp").iterdir()
    monkeypatch.setattr(seccomp, "_compiled", {})
    allow_all = b"\x06\0\0\0\0\0\xff\x7f"
    cached.write_bytes(allow_all[:7] if spoil == "length" else allow_all)
    if spoil == "writable":
        cached.chmod(0o666)
    elif spoil == "owner":
        os.chown(cached, 12345, 0)
    elif spoil == "folder":
        cached.parent.chmod(0o777)
    elif spoil == "link":
        cached.rename(tmp_path / "elsewhere")
        cached.symlink_to(tmp_path / "elsewhere")
    assert seccomp.compile(default()).program == first.program


def test_folders_made_for_the_cache_are_closed_to_others(tmp_path: Path) -> None:
    seccomp.compile(default(), cache=str(tmp_path / "run" / "seccomp"))
    for folder in (tmp_path / "run", tmp_path / "run" / "seccomp"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_without_a_place_for_a_cache_it_is_only_slower() -> None:
    assert seccomp.compile(default(), cache="/proc/nowhere/x").program
