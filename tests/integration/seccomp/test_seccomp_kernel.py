"""Policies loaded for real, in a child that then tries the calls."""

import ctypes
import errno
import json
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from orlop.errors import InvalidArgumentError
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
        {"flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]},
        {"syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]},
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


@pytest.mark.parametrize("action", ["ALLOW", "LOG", "KILL", "KILL_THREAD", "TRAP", "NOTIFY"])
def test_an_errno_that_an_action_cannot_return_is_refused(action: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"SCMP_ACT_{action} takes no errnoRet"):
        seccomp.compile(one_rule(f"SCMP_ACT_{action}", errnoRet=1) | {"listenerPath": "/x"})
    with pytest.raises(InvalidArgumentError, match="takes no errnoRet"):
        seccomp.compile({"defaultAction": f"SCMP_ACT_{action}", "defaultErrnoRet": 1,
                         "listenerPath": "/x"})  # fmt: skip


@pytest.mark.parametrize(
    ("action", "number"), [("SCMP_ACT_ERRNO", 4096), ("SCMP_ACT_TRACE", 65536)]
)
def test_an_errno_that_is_none_is_refused(action: str, number: int) -> None:
    with pytest.raises(InvalidArgumentError, match=str(number)):
        seccomp.compile(one_rule(action, errnoRet=number))


def test_the_default_action_has_an_errno_too() -> None:
    policy = one_rule("SCMP_ACT_ALLOW", names=["write", "exit_group", "mmap", "munmap", "brk"])
    policy |= {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.ENOTTY}
    assert under(policy, lambda: call(GETPPID)) == errno.ENOTTY


@pytest.mark.parametrize("action", ["KILL", "KILL_PROCESS", "TRAP"])
def test_a_call_newer_than_a_policy_that_kills_does_not_exist_either(action: str) -> None:
    known = [*["write", "exit_group", "mmap", "munmap", "brk", "rt_sigaction"], "mseal"]
    policy = one_rule("SCMP_ACT_ALLOW", names=known) | {"defaultAction": f"SCMP_ACT_{action}"}
    assert under(policy, lambda: call(NEWER_THAN_ANY)) == errno.ENOSYS
    assert under(policy, lambda: call(GETPPID)) == -signal.SIGSYS


@pytest.mark.parametrize("action", ["ALLOW", "LOG", "TRACE"])
def test_a_policy_that_permits_by_default_decides_on_newer_calls_too(action: str) -> None:
    policy = one_rule("SCMP_ACT_ERRNO") | {"defaultAction": f"SCMP_ACT_{action}"}
    program = seccomp.compile(policy).program
    nosys = struct.pack("=HBBI", 0x06, 0, 0, 0x00050000 | errno.ENOSYS)
    assert nosys not in [program[at : at + 8] for at in range(0, len(program), 8)]


def test_the_first_of_two_rules_of_one_call_counts() -> None:
    rules = [("SCMP_ACT_ERRNO", errno.ENOTTY), ("SCMP_ACT_ERRNO", errno.EDOM)]
    policy = cast(Seccomp, {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getppid"], "action": a, "errnoRet": n} for a, n in rules],
    })  # fmt: skip
    assert under(policy, lambda: call(GETPPID)) == errno.ENOTTY


def test_rules_of_one_call_with_other_arguments_are_alternatives() -> None:
    rules = [
        {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": error,
         "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}
        for value, error in ((1, errno.ENOTTY), (2, errno.EDOM))
    ]  # fmt: skip
    policy = cast(Seccomp, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    assert under(policy, lambda: [call(GETPPID, n) for n in (0, 1, 2)]) == [
        0,
        errno.ENOTTY,
        errno.EDOM,
    ]


ARCHITECTURES = [
    "X86",
    "X86_64",
    "X32",
    "ARM",
    "AARCH64",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PPC64LE",
    "S390",
    "S390X",
    "PARISC",
    "PARISC64",
    "RISCV64",
]
BIG_ENDIAN = {"MIPS", "MIPS64", "MIPS64N32", "PPC", "PPC64", "S390", "S390X", "PARISC", "PARISC64"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_can_be_named_beside_ours(name: str) -> None:
    policy = one_rule("SCMP_ACT_ERRNO") | {"architectures": [f"SCMP_ARCH_{name}"]}
    if name in BIG_ENDIAN:
        with pytest.raises(InvalidArgumentError, match=name):  # no filter is for both orders
            seccomp.compile(policy)
    else:
        assert under(policy, lambda: call(GETPPID)) == errno.EPERM


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (None, kernel.FilterFlag.SPEC_ALLOW),
        ([], 0),
        (["TSYNC"], 0),
        (["LOG", "SPEC_ALLOW"], kernel.FilterFlag.LOG | kernel.FilterFlag.SPEC_ALLOW),
        (["WAIT_KILLABLE_RECV"], 0),
    ],
)
def test_flags_are_those_that_mean_something(flags: list[str] | None, expected: int) -> None:
    more = {} if flags is None else {"flags": [f"SECCOMP_FILTER_FLAG_{flag}" for flag in flags]}
    policy = one_rule("SCMP_ACT_ERRNO") | cast(Seccomp, more)
    assert seccomp.compile(policy).flags == expected
    assert under(policy, lambda: call(GETPPID)) == errno.EPERM


def test_a_filter_that_notifies_asks_for_a_listener() -> None:
    more = {"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "listenerPath": "/run/agent"}
    filter_ = seccomp.compile(cast(Seccomp, one_rule("SCMP_ACT_NOTIFY") | more))
    wanted = kernel.FilterFlag.NEW_LISTENER | kernel.FilterFlag.WAIT_KILLABLE_RECV
    assert (filter_.flags, filter_.listener) == (wanted, "/run/agent")


def test_a_program_is_the_same_whoever_listens(tmp_path: Path) -> None:
    for number in range(3):
        more = {"listenerPath": f"/run/{number}", "listenerMetadata": str(number)}
        seccomp.compile(cast(Seccomp, one_rule("SCMP_ACT_NOTIFY") | more))
    assert len([*(tmp_path / "seccomp").iterdir()]) == 1


def test_metadata_for_nobody_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="listenerMetadata"):
        seccomp.compile(one_rule("SCMP_ACT_LOG") | {"listenerMetadata": "x"})


def test_what_is_remembered_has_a_limit() -> None:
    for number in range(200):
        seccomp.compile(one_rule("SCMP_ACT_ERRNO", errnoRet=number))
    assert len(seccomp._compiled) <= 64


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
