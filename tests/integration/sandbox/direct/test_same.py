"""What a program finds is the same, whichever way its sandbox was started."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import UnsupportedError
from orlop.sandbox.ways.direct import DirectWay
from tests.integration.sandbox.direct.ways import (
    HOST,
    LOOK,
    Given,
    Once,
    alike,
    differences,
    direct,
    look,
    run,
    usual,
)
from tests.integration.sandbox.faces import wait_until

_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "user": {"user": "user", "workdir": "/tmp", "environment": {"A": "b", "HOME": ""}},
    "numbers": {"user": "1234:4321", "workdir": "/no/such"},
    "read-only": {"read_only": True},
    "no-capabilities": {
        "user": "user",
        "more": {"HostConfig": {"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"]}},
    },
    "nearly-all-capabilities": {
        "more": {
            "HostConfig": {
                "CapAdd": ["ALL"],
                "CapDrop": ["SYS_PTRACE"],  # whose containers start in the usual way
                "SecurityOpt": ["seccomp=unconfined"],
            }
        }
    },
    "no-filter": {
        "user": "user",
        "more": {
            "HostConfig": {"SecurityOpt": ["seccomp=unconfined", "no-new-privileges"]},
        },
    },
    "nothing-hidden": {"more": {"HostConfig": {"SecurityOpt": ["systempaths=unconfined"]}}},
    "settings": {
        "more": {
            "Hostname": "given",
            "Domainname": "example.org",
            "HostConfig": {
                "Tmpfs": {"/new/one": "", "/tmp": "size=1m", "/srv": "ro,mode=700", "/root": ""},
                "ShmSize": 1 << 20,
                "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
                "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "5"},
                "GroupAdd": ["7", "extra"],
                "OomScoreAdj": 500,
                "Devices": [
                    {
                        "PathOnHost": "/dev/null",
                        "PathInContainer": "/dev/other",
                        "CgroupPermissions": "rw",
                    }
                ],
            },
        },
    },
}


@pytest.fixture(params=_OPTIONS, ids=str)
def options(request: pytest.FixtureRequest, given: Callable[..., Given], tmp_path: Path) -> Given:
    """Each with mounts: what is below them, read-only ones, a file, and what they write to."""
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    mounts = (
        *HOST,
        f"{tmp_path}/folder:/mounted/deep",
        f"{tmp_path}/folder:/protected:ro",
        f"{tmp_path}/file:/etc/file:ro",
        f"{tmp_path}/out:/out",
    )
    return given(mounts=mounts, **_OPTIONS[request.param])


def test_a_later_process_finds_the_same(options: Given) -> None:
    with direct(options) as quick, usual(options) as slow:
        assert differences(look(quick), look(slow)) == []


def test_a_first_process_finds_the_same(options: Given, tmp_path: Path) -> None:
    found = []
    for way in ("quick", "slow"):
        words = ["/bin/sh", "-c", f'"$@" > /out/{way} && touch /out/{way}.done', "sh", *LOOK]
        done = tmp_path / "out" / f"{way}.done"
        if way == "quick":
            ran = run(Once(options), *words)
            assert ran.exit_code == 0, ran
        else:
            with usual(replace(options, command=words)):
                wait_until(done.exists, "it never came to its end")
        assert done.exists()
        found.append(alike(json.loads((tmp_path / "out" / way).read_text())))
    quick, slow = found
    assert differences(quick, slow) == []


@pytest.mark.parametrize("user", ["user", "user:extra", "1000", "77:88", "root:extra", "4242"])
def test_a_process_of_a_named_user_finds_the_same(given: Callable[..., Given], user: str) -> None:
    options = given(mounts=HOST, environment={"A": "b"})
    how = {"user": user, "workdir": "/tmp", "environment": {"A": "c", "EMPTY": ""}}
    with direct(options) as quick, usual(options) as slow:
        assert differences(look(quick, **how), look(slow, **how)) == []


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_a_filter_that_knows_no_openat2_is_the_usual_ways(
    given: Callable[..., Given], action: str
) -> None:
    """It allows what a small program needs, and nothing of what is needed to look for it."""
    rules: list[dict[str, Any]] = [{"names": _NEEDED, "action": "SCMP_ACT_ALLOW"}]
    if action == "SCMP_ACT_ERRNO":
        rules.append({"names": ["openat2"], "action": action, "errnoRet": 38})
    default = "SCMP_ACT_ALLOW" if action == "SCMP_ACT_ERRNO" else action
    profile = {"defaultAction": default, "syscalls": rules}
    options = given(more={"HostConfig": {"SecurityOpt": [f"seccomp={json.dumps(profile)}"]}})
    with pytest.raises(UnsupportedError):
        run(Once(options), "echo", "x")
    box = DirectWay(options.settings()).start(options)
    try:
        assert run(box, "echo", "x").stdout == b"x\n"
    finally:
        box.close()


_NEEDED = (
    *("execve", "brk", "arch_prctl", "mmap", "munmap", "mprotect", "write", "writev", "read"),
    *("exit", "exit_group", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "getrandom"),
    *("readlink", "readlinkat", "newfstatat", "fstat", "getuid", "geteuid", "getgid", "prctl"),
    *("capset", "rt_sigaction", "rt_sigprocmask", "ioctl", "dup2", "fcntl", "open", "openat"),
    *("close", "getpid", "getppid", "wait4", "clone", "fork", "vfork", "nanosleep", "futex"),
    *("clock_nanosleep", "stat", "lseek", "rt_sigreturn", "getegid", "setpgid", "getpgrp", "uname"),
    *("rt_sigsuspend", "getcwd", "sigaltstack", "kill", "tgkill", "gettid", "pause", "close_range"),
    *("fchdir", "setsid", "dup3", "umask", "setgroups", "setresuid", "setresgid", "capget"),
    *("access", "faccessat", "faccessat2", "clone3", "poll", "ppoll", "pipe2", "execveat"),
)
