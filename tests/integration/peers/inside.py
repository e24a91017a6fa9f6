"""What a container can see of itself, as text that two runtimes must agree on."""

import difflib
import re

#: Every line is something a runtime decides.
LOOK = r"""
id; umask; pwd; hostname; env | grep -v ^HOSTNAME | sort
grep -E '^(Cap|NoNewPrivs|Seccomp|Groups|Uid|Gid|.*_allowed_list)' /proc/self/status
cat /proc/self/limits /proc/self/oom_score_adj /proc/self/uid_map /proc/self/gid_map
cat /proc/self/cgroup
sort -k 5,5 /proc/self/mountinfo
ls -lnR /dev | grep -v ^total
for fd in /proc/self/fd/*; do [ ! -e $fd ] || readlink $fd; done
for path in /proc/kcore /proc/keys /proc/timer_list /sys/firmware /proc/acpi /proc/scsi; do
    ls -ln $path 2>&1 | head -n 3
done
for path in /proc/sys/kernel/domainname /proc/sysrq-trigger; do
    [ -w $path ] && echo "$path can be written"
done
for path in /proc/irq /sys/kernel /dev/shm /tmp /; do
    touch $path/x 2>&1 && echo "$path can be written" && rm $path/x
done
for name in cgroup ipc mnt net pid time user uts; do
    [ "$(readlink /proc/1/ns/$name)" = "$(readlink /proc/self/ns/$name)" ] && echo same $name
done
cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start
for call in "unshare -U true" "mount -t tmpfs none /root" "mknod /tmp/node c 1 3"; do
    $call 2>&1 && echo "$call: may be called"
done
ls -l /sys/fs/cgroup; cat /sys/fs/cgroup/*/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes
sort /sys/fs/cgroup/devices/devices.list
cd /sys/fs/cgroup
grep . cpu/cpu.shares cpu/cpu.cfs_* cpuset/cpuset.cpus cpuset/cpuset.mems memory/memory.swappiness
grep . memory/memory.soft_limit_in_bytes memory/memory.memsw.limit_in_bytes
grep . memory/memory.oom_control blkio/blkio.throttle.*_device
cd /
""".strip()

_DIFFERS = (
    (re.compile(r"^\d+ \d+ \d+:\d+ ", re.MULTILINE), "MOUNT "),
    # Orlop shows the second hierarchy of a hybrid host, and keeps what is above them read-only.
    (re.compile(r"^.* unified( .*)?$\n|^.*/sys/fs/cgroup/unified .*\n", re.MULTILINE), ""),
    (re.compile(r"(/sys/fs/cgroup) r[ow](.* tmpfs tmpfs rw)(,size=64k)?"), r"\1 ro\2"),
    # runc makes the mount private that its bundle is on, so that nothing on that can follow.
    (re.compile(r"^(MOUNT \S+ / \S+) master:\d+ ", re.MULTILINE), r"\1 "),
    # What hides a path is as read-only, and more so.
    (
        re.compile(
            r" ro(,nosuid,nodev,noexec)?,relatime - tmpfs (none|tmpfs) r[ow]\b", re.MULTILINE
        ),
        " EMPTY",
    ),
    (re.compile(r"^(MOUNT /null /\S+) r[ow]", re.MULTILINE), r"\1 ro"),
    # The root of a file system is like the folder it covers, by an option or later.
    (re.compile(r"( /etc .* tmpfs tmpfs rw),mode=755$", re.MULTILINE), r"\1"),
    # The mount is read-only, whatever its file system is.
    (re.compile(r"( /sys ro.* sysfs sysfs) r[ow]$", re.MULTILINE), r"\1"),
    (re.compile(r" - cgroup (systemd|cgroup) rw"), " - cgroup cgroup rw"),
    # Of whoever made the IPC namespace, which for Orlop is the root outside.
    (re.compile(r"\b(0|65534) +(65534 .* mqueue)$", re.MULTILINE), r"ROOT \2"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "ID"),
    (re.compile(r"(:/p-\w+/|snapshots/)c?\d+\b"), r"\1ID"),
    (re.compile(r"\b(shared|master|propagate_from):\d+"), r"\1:N"),
    (re.compile(r"\b(pipe|socket):\[\d+\]"), r"\1"),
    (re.compile(r"^/proc/\d+/fd$", re.MULTILINE), "/proc/PID/fd"),
    (re.compile(r"\b[A-Z][a-z]{2} +\d+ +(\d\d:\d\d|\d{4})\b"), "TIME"),
    (re.compile(r"^[0-9a-f]{12}$", re.MULTILINE), "HOSTNAME"),
)


def differences(runc: str, orlop: str) -> list[str]:
    """Return the lines that only one of the runtimes shows, but for what always differs."""
    lines = difflib.unified_diff(_same(runc), _same(orlop), "runc", "orlop", n=0, lineterm="")
    return list(lines)


def _same(text: str) -> list[str]:
    """Return lines of *text* without what differs between any two containers."""
    for pattern, word in _DIFFERS:
        text = pattern.sub(word, text)
    return text.splitlines()
