"""A container that may trace others looks at every process that enters it."""

import contextlib
import copy
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.kernel.capabilities import mask
from orlop.runtime.ahead import Ahead
from orlop.runtime.bundle import Starting
from orlop.runtime.proc_contexts import open_contexts
from tests.integration.runtime.box import CAPABILITIES, Box

_ROUNDS = 60
_SPY = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void note(const char *how) {
    FILE *found = fopen("/tmp/found", "a");
    fprintf(found, "%s\n", how);
    fclose(found);
}

static void try(const char *path, const char *how) {
    if (access(path, F_OK) == 0) note(how);
}

static void weigh(int pid, unsigned long long allowed) {
    char path[64], line[256];
    unsigned long long permitted = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *status = fopen(path, "r");
    if (!status) return;
    while (fgets(line, sizeof line, status)) sscanf(line, "CapPrm: %llx", &permitted);
    fclose(status);
    if (permitted == 1ULL << 21) return;  /* CAP_SYS_ADMIN alone: proc_contexts.py, filtered */
    if (permitted & ~allowed) note("capabilities");
}

int main(int count, char **arguments) {
    const char *marker = arguments[1];
    unsigned long long allowed = strtoull(arguments[2], 0, 16);
    char path[4096];
    fclose(fopen("/tmp/ready", "w"));
    for (;;) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while ((entry = readdir(proc))) {
            int pid = atoi(entry->d_name);
            if (pid < 2 || pid == getpid()) continue;
            weigh(pid, allowed);
            snprintf(path, sizeof path, "/proc/%d/root%s", pid, marker);
            try(path, "root");
            snprintf(path, sizeof path, "/proc/%d/cwd/../../../../../../../../..%s", pid, marker);
            try(path, "cwd");
            for (int fd = 3; fd < 40; fd++) {
                snprintf(path, sizeof path, "/proc/%d/fd/%d%s", pid, fd, marker);
                try(path, "descriptor");
            }
        }
        closedir(proc);
    }
}
"""


@pytest.fixture(scope="module")
def spy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spy")
    (folder / "spy.c").write_text(_SPY)
    subprocess.run(["cc", "-static", "-O2", "-o", folder / "spy", folder / "spy.c"], check=True)
    return folder / "spy"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    made = tmp_path / "marker"
    made.write_text("of the host")
    return made


@pytest.fixture
def root_held() -> Iterator[int]:
    """Hold the host's root open, as the caller of an exec may."""
    fd = os.open("/", os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


#: What the steps of a process need that come after it is born.
_FOR_STEPS = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID")


def _may_trace(box: Box, *more: str) -> list[str]:
    capabilities = [*CAPABILITIES, "CAP_SYS_PTRACE", *more]
    for name in ("bounding", "effective", "permitted"):
        box.process["capabilities"][name] = capabilities
    return capabilities


def _watch(box: Box, spy: Path, marker: Path, starting: Starting, allowed: list[str]) -> None:
    bits = f"{mask((*allowed, *_FOR_STEPS)):x}"
    box.exec_in_background(starting, "spy", str(marker), bits)
    while not (box.upper / "tmp/ready").exists():
        time.sleep(0.01)


def _join(box: Box, starting: Starting) -> None:
    box.id += "-joins"
    for entry in box.linux["namespaces"]:
        if entry["type"] == "pid":
            entry["path"] = f"/proc/{starting.pid}/ns/pid"


def _found(box: Box) -> list[str]:
    found = box.upper / "tmp/found"
    return sorted(set(found.read_text().split())) if found.exists() else []


@pytest.fixture
def box(box: Box, spy: Path) -> Box:
    (box.lower / "bin/spy").write_bytes(spy.read_bytes())
    (box.lower / "bin/spy").chmod(0o755)
    box.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [  # as older policies, which do not know them
            {
                "names": ["clone3", "close_range", "faccessat2", "openat2"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 38,
            }
        ],
    }
    return box


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("more", [(), ("CAP_SYS_ADMIN",)])
@pytest.mark.usefixtures("root_held")
def test_an_exec_shows_nothing_of_the_host_to_who_may_trace_it(
    box: Box, spy: Path, marker: Path, more: tuple[str, ...], *, mapped: bool
) -> None:
    if mapped:
        mapping = [{"containerID": 0, "hostID": 200_000, "size": 65536}]
        box.linux["namespaces"].append({"type": "user"})
        box.linux["uidMappings"] = box.linux["gidMappings"] = mapping
    allowed = _may_trace(box, *more)
    starting = box.sleeping()
    _watch(box, spy, marker, starting, allowed)
    for _ in range(_ROUNDS):
        assert box.exec(starting, "true").status == 0
    assert not _found(box)


@pytest.mark.usefixtures("root_held")
def test_an_exec_by_a_reserve_shows_nothing_of_the_host_to_another_container(
    box: Box, spy: Path, marker: Path
) -> None:
    """It keeps CAP_SYS_ADMIN until its filter is loaded: docs/decisions/entering.md."""
    config, starting = copy.deepcopy(box.config), box.sleeping()
    _join(box, starting)
    allowed = [*_may_trace(box), "CAP_SYS_ADMIN"]
    _watch(box, spy, marker, box.sleeping(), allowed)
    box.config = config
    for _ in range(_ROUNDS):
        assert box.exec(starting, "true").status == 0
    assert not _found(box)
    box.ahead = Ahead()
    try:
        for _ in range(_ROUNDS):
            box.ahead.processes.refill()
            assert box.exec(starting, "true").status == 0
        assert box.ahead.processes.pool.stock.hits
    finally:
        box.ahead.close()
    assert not _found(box)


@pytest.mark.usefixtures("root_held")
def test_a_container_shows_nothing_of_the_host_to_those_whose_pid_namespace_it_joins(
    box: Box, spy: Path, marker: Path
) -> None:
    allowed = _may_trace(box)
    starting = box.sleeping()
    _watch(box, spy, marker, starting, allowed)
    _join(box, starting)
    for _ in range(_ROUNDS):
        assert box.run("sh", "-c", "test $(readlink /proc/self) = $(exec readlink /proc/self)")
    assert box.sh("cat /proc/1/comm").strip() == "sleep"
    assert not _found(box)


def test_one_sent_into_a_pid_namespace_is_not_waited_for_when_it_is_stopped(box: Box) -> None:
    starting = box.sleeping()
    box.exec_in_background(starting, "sh", "-c", "while :; do kill -STOP -1; done 2>/dev/null")
    namespace = os.open(f"/proc/{starting.pid}/ns/pid", os.O_RDONLY)
    before = children()
    for _ in range(5):
        with contextlib.suppress(TimeoutError):  # it may be quicker than they are
            os.close(open_contexts(namespace, 1)[0])
    os.close(namespace)
    assert children() == before


def children() -> set[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {int(pid) for pid in text.split()}
