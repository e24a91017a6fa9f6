"""Whatever its options: a Python child and a table of system calls give a program the same.

One order of steps has two executors (runtime/order.py). Options are generated among those that
a recipe can have; both executors start a first process and a later one with them.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

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

_USERS = ("", "user", "user:extra", "root:extra", "1234:4321", "77", "4242:7")
_FOLDERS = ("", "/tmp", "/no/such", "/new/one/below", "/etc/../srv")
_CAPABILITIES = (
    *("ALL", "CHOWN", "NET_ADMIN", "NET_BIND_SERVICE", "SYS_ADMIN", "SYS_CHROOT", "SYS_NICE"),
    *("SETUID", "SETGID", "SETPCAP", "MKNOD", "DAC_OVERRIDE", "SYS_RESOURCE", "AUDIT_WRITE"),
)
_SECURITY = ("no-new-privileges", "seccomp=unconfined", "systempaths=unconfined")
_IN_MEMORY = ("/new/one", "/tmp", "/srv", "/root", "/dev/memory", "/opt/a/b/c")
_MEMORY_OPTIONS = ("ro", "noexec", "exec", "suid", "size=1m", "mode=700", "noatime", "uid=7")
_BOUND = ("/mounted/deep", "/protected", "/etc/file", "/dev/bound", "/tmp/below")
_BIND_OPTIONS = ("", "ro", "rw", "rslave", "private", "ro,rprivate")
_LIMITS = ("nofile", "nproc", "core", "fsize", "stack", "memlock")


def _some(of: tuple[str, ...], most: int = 3) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(of), unique=True, max_size=most)


def _limit(name: str, soft: int, more: int) -> dict[str, Any]:
    return {"Name": name, "Soft": soft, "Hard": soft + more}


def _device(name: str, access: str) -> dict[str, Any]:
    path = "/dev/null" if name == "other" else "/dev/zero"
    return {"PathOnHost": path, "PathInContainer": f"/dev/{name}", "CgroupPermissions": access}


_HOST_CONFIG = st.fixed_dictionaries(
    {"CapDrop": _some(_CAPABILITIES).map(lambda names: [*names, "SYS_PTRACE"])},
    optional={
        "CapAdd": _some(_CAPABILITIES, most=6),
        "SecurityOpt": _some(_SECURITY),
        "Tmpfs": st.dictionaries(
            st.sampled_from(_IN_MEMORY), _some(_MEMORY_OPTIONS).map(",".join), max_size=3
        ),
        "ShmSize": st.sampled_from((1 << 20, 1 << 22)),
        "Ulimits": st.lists(
            st.builds(
                _limit, st.sampled_from(_LIMITS), st.integers(300, 10_000), st.integers(0, 9_000)
            ).filter(lambda limit: limit["Name"] not in ("fsize", "stack", "nproc")),
            unique_by=lambda limit: limit["Name"],
            max_size=3,
        ),
        "GroupAdd": _some(("7", "extra", "50")),
        "OomScoreAdj": st.integers(0, 1000),
        "Sysctls": st.just({"net.ipv4.ip_unprivileged_port_start": "5"}),
        "Devices": st.lists(
            st.builds(_device, st.sampled_from(("other", "third")), st.sampled_from(("r", "rw"))),
            unique_by=lambda device: device["PathInContainer"],
            max_size=2,
        ),
    },
)
_OPTIONS = st.fixed_dictionaries(
    {
        "more": st.fixed_dictionaries(
            {"HostConfig": _HOST_CONFIG},
            optional={"Domainname": st.just("example.org"), "Hostname": st.just("given")},
        )
    },
    optional={
        "user": st.sampled_from(_USERS),
        "workdir": st.sampled_from(_FOLDERS),
        "environment": st.dictionaries(
            st.sampled_from(("A", "HOME", "TERM")), st.sampled_from(("", "b", "/c")), max_size=2
        ),
        "read_only": st.booleans(),
    },
)
_BINDS = st.dictionaries(st.sampled_from(_BOUND), st.sampled_from(_BIND_OPTIONS), max_size=3)
_LATER = st.fixed_dictionaries({}, optional={"user": st.sampled_from(_USERS[1:])})


@settings(
    max_examples=20,
    phases=(Phase.generate,),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(options=_OPTIONS, binds=_BINDS, later=_LATER)
def test_both_executors_give_a_program_the_same(
    options: dict[str, Any],
    binds: dict[str, str],
    later: dict[str, Any],
    given: Callable[..., Given],
    tmp_path: Path,
) -> None:
    made = tmp_path / uuid.uuid4().hex
    wanted = given(mounts=_mounts(made, binds), **options)
    assert _of_first(wanted, made / "out") == []
    with direct(wanted) as table, usual(wanted) as child:
        assert differences(look(table, **later), look(child, **later)) == []


def _mounts(made: Path, binds: dict[str, str]) -> tuple[str, ...]:
    (made / "folder" / "below").mkdir(parents=True)
    (made / "file").write_text("x")
    (made / "out").mkdir()
    (made / "out").chmod(0o777)
    words = []
    for target, how in binds.items():
        source = made / ("file" if target == "/etc/file" else "folder")
        words.append(f"{source}:{target}:{how}".rstrip(":"))
    return (*HOST, *words, f"{made}/out:/out")


def _of_first(options: Given, out: Path) -> list[str]:
    words = ["/bin/sh", "-c", '"$@" > /out/found && mv /out/found /out/done', "sh", *LOOK]
    done = out / "done"
    ran = run(Once(options), *words)
    assert ran.exit_code == 0, ran
    by_table = alike(json.loads(done.read_text()))
    done.unlink()
    with usual(replace(options, command=words)):
        wait_until(done.exists, "it never came to its end")
    return differences(by_table, alike(json.loads(done.read_text())))
