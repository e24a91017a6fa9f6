"""Run a command and fail if it leaves the host changed: python -m tests.host_state COMMAND...

The command runs in a mount namespace of its own in which every mount is shared, as on a host with
systemd: a container that does not cut propagation unmounts something there, and that is seen.
"""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orlop.kernel.namespaces import Namespace, unshare

_SETTLE_S = 20.0  # the kernel removes cgroups and network namespaces in its own time
_PR_SET_CHILD_SUBREAPER = 36

#: Files of /proc/sys that change by themselves, or by any process that runs.
_VOLATILE = re.compile(
    r"fs/(dentry-state|file-nr|inode-nr|inode-state|aio-nr|quota/)"
    r"|kernel/(random/|ns_last_pid|pty/nr|perf_event_max_sample_rate|perf_cpu_time_max_percent)"
    r"|kernel/(tainted|sched_domain/)"
    r"|net/netfilter/nf_conntrack_count"
)

#: What other programs keep in /run, or beside their own mounts; and what Orlop keeps to start
#: quicker, as its documentation says: compiled policies and the sealed interpreter.
_KEPT = re.compile(
    r"/run/(containerd|containers|criu\.kdat|crun|dbus|docker|libpod|lock|mount|netns|runc)\b"
    r"|/run/xtables\.lock|/run/orlop$|/run/orlop-runtime$|/run/orlop/seccomp\b|/run/orlop-sealed\b"
)

#: The parents of containers' cgroups in each hierarchy. As its peers do, Orlop makes them once and
#: leaves them there empty, because another engine may be about to make a cgroup inside.
_PARENTS = re.compile(r"/sys/fs/cgroup/([^/]+/)?(docker|orlop)")

State = Mapping[str, frozenset[str]]


def host() -> State:
    """Return what a test run may not change on its host."""
    return {
        "mount": mounts(),
        "cgroup": frozenset(_cgroups()),
        "sysctl": frozenset(_sysctls(Path("/proc/sys"))),
        "file of /run": frozenset(_files_of_run()),
        **network(),
    }


def network() -> State:
    """Return what belongs to the network namespace of the caller."""
    links = subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=True)
    rules = subprocess.run(
        ["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True
    )
    return {
        "address": frozenset(re.sub(r"\S+_lft \S+", "", line) for line in links.stdout.split("\n")),
        "interface": frozenset(name for _, name in socket.if_nameindex()),
        "nft rule": frozenset(rules.stdout.splitlines()),
        "network sysctl": frozenset(_sysctls(Path("/proc/sys/net"))),
    }


def changes(before: State, after: State) -> list[str]:
    """Return a line for each thing that is in one of the two states alone.

    A sysctl with a new name is no change: a module of the kernel brings it, and stays loaded.
    """
    lines = []
    for kind, were in before.items():
        left = after[kind] - were
        if kind.endswith("sysctl"):
            known = {_name(sysctl) for sysctl in were}
            left = frozenset(sysctl for sysctl in left if _name(sysctl) in known)
        lines += [f"gone: {kind} {one}" for one in sorted(were - after[kind])]
        lines += [f"left: {kind} {one}" for one in sorted(left)]
    return lines


def _name(sysctl: str) -> str:
    return sysctl.partition(" = ")[0]


def share_mounts() -> None:
    """Be in a mount namespace of our own in which every mount is shared."""
    unshare(Namespace.MOUNT)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)  # of the host's own
    subprocess.run(["mount", "--make-rshared", "/"], check=True)


def mounts() -> frozenset[str]:
    """Return a line for each mount that the caller's mount namespace has."""
    return frozenset(_mounts())


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        _, _, device, root, place, options, *tags = before.split()
        if _KEPT.match(place):
            continue
        shared = "shared" if any(tag.startswith("shared:") for tag in tags) else "not shared"
        yield f"{place} {device} {root} {options} {shared} {after}"


def _cgroups() -> Iterator[str]:
    around_us = _cgroups_around_us()
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        if folder in around_us:
            names.clear()  # programs that run beside this one come and go
        paths = [f"{folder}/{name}" for name in names]
        yield from (path for path in paths if not _PARENTS.fullmatch(path))


def _cgroups_around_us() -> frozenset[str]:
    """Return the parents of our own cgroups, except for roots."""
    tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
    paths = [line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    parents = {os.path.dirname(path) for path in paths} - {"/"}
    return frozenset(f"{top}{parent}" for top in tops for parent in parents)


def _sysctls(top: Path) -> Iterator[str]:
    for folder, _, names in os.walk(top):
        for name in names:
            path = Path(folder, name)
            key = str(path.relative_to("/proc/sys"))
            if not _VOLATILE.match(key) and os.access(path, os.R_OK):
                try:
                    yield f"{key} = {path.read_text().strip()}"
                except (OSError, UnicodeDecodeError):
                    continue  # it can be written only, or its device is gone


def _files_of_run() -> Iterator[str]:
    for folder, names, files in os.walk("/run"):
        names[:] = [name for name in names if not _KEPT.match(f"{folder}/{name}")]
        paths = [f"{folder}/{name}" for name in (*names, *files)]
        yield from (path for path in paths if not _KEPT.match(path))


def _reap(command: Sequence[str]) -> int:
    """Run *command* to its end, together with every orphan that it makes; return its status."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command hears it, too, and ends
    pid = os.posix_spawnp(command[0], list(command), os.environ, setsigdef=[signal.SIGINT])
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _orphans() -> frozenset[str]:
    """Return the command lines of processes that have outlived the command."""
    found = set()
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        try:
            words = Path("/proc", child, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words != [b""]:
            found.add(os.fsdecode(b" ".join(words)).strip())
    return frozenset(found)


def _remaining(before: State) -> list[str]:
    """Return what the command has changed, once that no longer becomes less."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        found = changes(before, host()) + [f"left: process {line}" for line in _orphans()]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def main(command: Sequence[str]) -> int:
    """Run *command*; return its exit status, or 1 if it has left the host changed."""
    if os.geteuid() != 0:
        return _reap(command)
    share_mounts()
    before = host()
    status = _reap(command)
    found = _remaining(before)
    for line in found:
        print(f"the host is not as it was before the tests: {line}", file=sys.stderr)
    if found:
        print("where no test has done it, something else on this host has", file=sys.stderr)
    return status or bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
