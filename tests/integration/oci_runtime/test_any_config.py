"""Whatever config.json says: it is run, or refused in one sentence that names the field.

A good configuration is changed in one to three places, each to something that fits
its type, or is near to it, or is anything at all. What would reach out of the
container if it were granted is left out: host devices to move, paths of cgroups that
are in use. Mounts are looked for in a mount namespace made for this test.
"""

import copy
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from orlop.model.oci_shape import CONFIG
from orlop.runtime.seccomp_default import profile
from tests.integration.kills.remains import adopting_orphans
from tests.integration.oci_runtime.program import OCIBundle, Program, cgroups, wait_for

Way = tuple[str | int, ...]

#: Words that mean something in the place named by the last name on the way to it.
WORDS: dict[str, tuple[str, ...]] = {
    "args": ("true", "/bin/true", "/nope", "", "/", "/etc/passwd", "../bin/true"),
    "env": ("PATH=/bin", "A", "=", "A==b", ""),
    "cwd": ("/", "/made", "rel", "/etc/passwd", "/proc/self/fd/3", "/proc/1"),
    "bounding": ("CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_NOPE", "chown", ""),
    "ambient": ("CAP_CHOWN", "CAP_NOPE"),
    "options": ("ro", "rw", "bind", "rbind", "nosuid", "size=1", "size=x", "mode=9", "rro", "nope"),
    "destination": ("/made/here", "rel", "/proc", "/dev", "/bin", "/etc/passwd", "/", ".", "../.."),
    "source": ("rootfs", "tmpfs", "/nope", "/dev/null", "proc"),
    "path": ("rootfs", "nope", "", "rootfs/../rootfs", "/bin/true", "/proc/self/ns/net", "/dev/x"),
    "cgroupsPath": ("orlop-test/x", "a:b:c", "system.slice:x:y", ":::", "../x"),
    "rootfsPropagation": ("shared", "rslave", "private", "unbindable", "nope"),
    "hostname": ("inside", "a" * 65, "a b", ""),
    "domainname": ("domain", "a" * 65),
    "policy": ("SCHED_OTHER", "SCHED_BATCH", "SCHED_DEADLINE", "SCHED_NOPE"),
    "class": ("IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE", "IOPRIO_CLASS_NOPE"),
    "domain": ("LINUX", "LINUX32", "NOPE"),
    "action": ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY", "SCMP_ACT_KILL", "NOPE"),
    "defaultAction": ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_TRAP", "NOPE"),
    "architectures": ("SCMP_ARCH_X86_64", "SCMP_ARCH_ARM", "NOPE"),
    "names": ("mount", "write", "nope"),
    "op": ("SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ", "NOPE"),
    "mode": ("MPOL_DEFAULT", "MPOL_BIND", "NOPE"),
    "flags": ("SECCOMP_FILTER_FLAG_LOG", "SCHED_FLAG_RECLAIM", "MPOL_F_NOPE"),
    "cpus": ("0", "0-1", "9999", "x"),
    "nodes": ("0", "99", "x"),
    "initial": ("0", "0-1", "9999", "x", ""),
    "pageSize": ("2MB", "1GB", "3KB", "x"),
    "maskedPaths": ("/proc/keys", "rel", "/nope", "/bin/true", "/"),
    "username": ("root", "alice", "nobody", "1:2:3", ":"),
    "access": ("rwm", "r", "x", ""),
    "ociVersion": ("1.2.0", "1.0.0", "2.0.0", "nope", ""),
    "schemata": ("L3:0=f",),
}
WORDS |= dict.fromkeys(("effective", "permitted", "inheritable"), WORDS["bounding"])
WORDS |= {"readonlyPaths": WORDS["maskedPaths"], "additionalGroups": WORDS["username"]}
WORDS |= {"final": WORDS["initial"], "mems": WORDS["nodes"]}
TYPES = {
    "mounts": ("proc", "tmpfs", "bind", "sysfs", "devpts", "mqueue", "cgroup", "nope", ""),
    "namespaces": ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time", "nope"),
    "rlimits": ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_NOPE"),
    "devices": ("c", "b", "p", "u", "a", "x"),
}
KEYS = {
    "sysctl": ("kernel.shmmax", "net.ipv4.ip_forward", "kernel.core_pattern", "x", "a/../b"),
    "timeOffsets": ("monotonic", "boottime", "nope"),
    "unified": ("pids.max", "nope", "../x", "memory.max"),
    "netDevices": ("orlop-nope", "a/b", ""),
    "annotations": ("a", "", "org.opencontainers.x"),
    "rdma": ("mlx5_1", "nope"),
}
JUNK: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        (None, True, -1, 0, 1 << 31, 1 << 64, 1.5, float("inf"), "", "\0", "\ud800", "x" * 5000)
    ),
    st.sampled_from(([], {}, [[]], [None], {"": {}}, {"type": "nope"}, "é\n\x1b[2J")),
    st.text(max_size=20),
)


def values(shape: Any, way: Way) -> st.SearchStrategy[Any]:
    """Give values that a field of this *shape* may have, with those at its bounds."""
    if isinstance(shape, dict):
        if "*" in shape:
            keys = st.sampled_from(KEYS[str(way[-1])])
            return st.dictionaries(keys, values(shape["*"], (*way, "*")), max_size=2)
        must = {
            key[:-1]: values(part, (*way, key[:-1]))
            for key, part in shape.items()
            if key[-1] == "!"
        }
        may = {key: values(part, (*way, key)) for key, part in shape.items() if key[-1] != "!"}
        return (
            st.fixed_dictionaries(must, optional=may)
            if len(may) < 9
            else st.fixed_dictionaries(must)
        )
    if isinstance(shape, list):
        return st.lists(values(shape[0], (*way, 0)), max_size=2)
    if isinstance(shape, tuple):
        low, high = shape
        near = [number for number in (low, -1, 0, 1, 2, 1000, 65536, high) if low <= number <= high]
        return st.sampled_from(near)
    return st.booleans() if shape is bool else st.sampled_from(words(way))


def words(way: Way) -> tuple[str, ...]:
    names = [name for name in way if isinstance(name, str)]
    if names[-1] == "type":
        return TYPES[names[-2]]
    return WORDS.get(names[-1], ("x", "/bin/true", ""))


def ways(shape: Any, way: Way = ()) -> Iterator[tuple[Way, Any]]:
    """Give the way to every field there can be, with its shape."""
    if isinstance(shape, dict) and "*" not in shape:
        for key, part in shape.items():
            yield from ways(part, (*way, key.removesuffix("!")))
    elif isinstance(shape, list) and isinstance(shape[0], dict):
        yield from ways(shape[0], (*way, 0))
    if way:
        yield way, shape


FIELDS = sorted(ways(CONFIG), key=lambda field: str(field[0]))


@st.composite
def changes(draw: st.DrawFn) -> tuple[Way, Any]:
    way, shape = draw(st.sampled_from(FIELDS))
    return way, draw(st.one_of(values(shape, way), values(shape, way), JUNK))


def changed(document: Any, way: Way, value: Any) -> Any:
    """Return *document* with *value* at the end of *way*, made if it is not there."""
    if not way:
        return value
    step, rest = way[0], way[1:]
    if isinstance(step, int):
        items = list(document) if isinstance(document, list) else []
        first = items[0] if items else {}
        return [changed(first, rest, value), *items[1:]]
    fields = dict(document) if isinstance(document, dict) else {}
    return {**fields, step: changed(fields.get(step), rest, value)}


class Ground:
    """What each document is tried on, and what was there before."""

    def __init__(self, folder: Path) -> None:
        self.holder = subprocess.Popen(["unshare", "-m", "sleep", "600"])
        self.children = _children()
        own = os.readlink("/proc/self/ns/mnt")
        wait_for(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/mnt") != own)
        self.program = Program(folder)
        self.program.prefix = ("nsenter", "-m", "-t", str(self.holder.pid), "--wd=" + str(folder))
        self.bundle = OCIBundle(folder / "bundle")
        self.good = {**self.bundle.config, "annotations": {"a": "b"}}
        self.good["linux"]["seccomp"] = profile()
        self.program.ok("--version")  # mounts what there is to mount
        self.mounts = self._mounts()

    def _mounts(self) -> list[str]:
        lines = Path(f"/proc/{self.holder.pid}/mountinfo").read_text().splitlines()
        return sorted(line for line in lines if str(self.bundle.folder) in line)

    def try_out(self, document: Any) -> str:
        """Run a container of *document*; what was said if it was refused."""
        name = f"orlop-test-{uuid.uuid4().hex[:12]}"
        self.bundle.config = document
        log = self.bundle.folder / "log"
        log.unlink(missing_ok=True)
        done = self.program.call("--log", log, "run", "--bundle", self.bundle.write(), name)
        said = log.read_text() if log.exists() else ""
        for hint in ("Traceback", "internal error"):
            assert hint not in done.stderr + said, done.stderr
        assert len(said.splitlines()) <= 1, said
        refused = "level=error" in said
        assert not refused or done.returncode == 1
        assert list(self.program.root.glob("*")) == []
        assert cgroups([name]) == []
        assert self._mounts() == self.mounts
        assert _children() == self.children
        return said if refused else ""

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait()


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with adopting_orphans():
        made = Ground(tmp_path)
        yield made
        made.close()


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(edits=st.lists(changes(), min_size=1, max_size=3))
def test_any_document_is_run_or_refused_by_the_fields_name(
    ground: Ground, edits: list[tuple[Way, Any]]
) -> None:
    document = copy.deepcopy(ground.good)
    for way, value in edits:
        document = changed(document, way, value)
    said = ground.try_out(document)
    event("refused" if said else "run")
    if said:
        assert any(names(way, value, said) for way, value in edits), said


def names(way: Way, value: Any, said: str) -> bool:
    """Whether a refusal speaks of a field, or of what was in it."""
    if "exec: " in said:  # the program cannot be run, which may be for what was done to its root
        return True
    if len(way) == 1:  # all that was there is missing, and may be missed anywhere
        return any(str(name) in said for field, _ in FIELDS for name in field)
    way = tuple(part for part in way if part != "linux")
    text = re.sub(r"[^a-z0-9]", "", said.partition("msg=")[2].lower())
    parts = [re.sub(r"[^a-z0-9]", "", str(part).lower()) for part in (*way, *found(value))]
    return any(part.rstrip("s")[:5] in text for part in parts if len(part) > 2)


def found(value: Any) -> Iterator[Any]:
    """Give every name, word and number in *value*."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from found(item)
    else:
        yield value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"config"',
        "{}",
        "{} {}",
        "\ufeff{}",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"process": ' + "9" * 5000 + "}",
        '{"process": {"args": ["true"]}, "root": {"path": "rootfs"}',
        "\x00" * 100,
        '{"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "linux": {}}',
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_any_text_is_refused_in_one_line(program: Program, bundle: OCIBundle, text: str) -> None:
    bundle.write()
    (bundle.folder / "config.json").write_text(text)
    line = program.refused("run", "--bundle", bundle.folder, program.id())
    assert len(line) < 1000


def test_a_text_that_is_none_is_refused(program: Program, bundle: OCIBundle) -> None:
    bundle.write()
    (bundle.folder / "config.json").write_bytes(b'{"hostname": "\xff\xfe"}')
    program.refused("run", "--bundle", bundle.folder, program.id())
    (bundle.folder / "config.json").unlink()
    assert "config.json" in program.refused("run", "--bundle", bundle.folder, program.id())
    (bundle.folder / "config.json").mkdir()
    assert "config.json" in program.refused("run", "--bundle", bundle.folder, program.id())
