"""A real systemd as process 1 of a box of its own, with a bus, on the host's read-only /usr."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from orlop.kernel.process import pidfd_open, pidfd_send_signal
from orlop.runtime.cgroups import open as open_cgroup
from orlop.runtime.cgroups.layout import Layout, detect

ROOT = Path(__file__).parents[3]
_BOOT_TIMEOUT_S = 30.0
_RAISED = [Path("/proc/sys/fs/nr_open"), Path("/proc/sys/fs/file-max")]  # by systemd, the host's

#: The new root is made and entered, systemd becomes process 1. $1: the root's folder, $2: "v2" or
#: "hybrid", $3: v1 hierarchies, one a word; the rest: folders that are to be there. The variable
#: EXTRA is what else to do in the root.
SCRIPT = r"""
set -e
root=$1 mode=$2 hierarchies=$3
shift 3
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir -p dev etc/systemd/system old proc run sys tmp usr var
mount --rbind -o ro /usr usr
for name in bin lib lib32 lib64 sbin; do
    if [ -L /$name ]; then cp -P /$name .; fi
done
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
for folder; do
    mkdir -p ".$folder"
    mount --rbind -o ro "$folder" ".$folder"
done
[ ! -d /etc/alternatives ] || cp -a /etc/alternatives etc
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs dev
for node in full null random tty urandom zero; do
    touch dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
if [ "$mode" = v2 ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    for names in $hierarchies; do
        mkdir sys/fs/cgroup/"${names#name=}"
        options=$names
        case $names in name=*) options=none,$names ;; esac
        mount -t cgroup -o "$options" cgroup sys/fs/cgroup/"${names#name=}"
    done
    mkdir sys/fs/cgroup/unified
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
fi
echo 'root:x:0:0::/root:/bin/sh
messagebus:x:100:100::/:/bin/false
alice:x:1000:1000::/tmp:/bin/sh' > etc/passwd
echo 'root:x:0:
messagebus:x:100:
alice:x:1000:' > etc/group
touch etc/fstab etc/machine-id etc/os-release
cat > etc/systemd/system/box.target <<unit
[Unit]
DefaultDependencies=no
Wants=dbus.service
unit
eval "$EXTRA"
pivot_root . old
umount -l old
v1=$([ "$mode" = v2 ] && echo 1 || echo 0)
exec env -i container=orlop PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd \
    --unit=box.target --log-target=null --show-status=0 \
    systemd.unified_cgroup_hierarchy=$v1 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1
"""


class Booted:
    """A box that runs."""

    def __init__(self, pid: int, cgroup: str, layout: Layout) -> None:
        self.pid = pid
        self._cgroup = cgroup
        self._layout = layout

    def run(self, *args: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a command in the box, beside its systemd; its exit code and what it wrote."""

        def enter() -> None:
            for hierarchy in self._layout.hierarchies:
                scope = Path(hierarchy.mountpoint + self._cgroup, "init.scope")
                (scope if scope.exists() else scope.parent).joinpath("cgroup.procs").write_text("0")

        command = ["nsenter", "--target", str(self.pid), "--all", "--", *args]
        done = subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], "HOME": "/tmp", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
            preexec_fn=enter,
        )
        return done.returncode, done.stdout


@contextlib.contextmanager
def booted(mode: str) -> Iterator[Booted]:
    """Boot systemd with cgroups as *mode* says, "hybrid" or "v2"; nothing of it is left."""
    layout = detect() if mode == "hybrid" else Layout((), detect().unified)
    cgroup = f"/orlop-test-{uuid.uuid4().hex[:8]}"
    folders = [Path(h.mountpoint + cgroup) for h in layout.hierarchies]
    with tempfile.TemporaryDirectory() as root, contextlib.ExitStack() as undo:
        undo.callback(_clear, cgroup, layout)
        for limit in _RAISED:
            undo.callback(limit.write_text, limit.read_text())
        for folder in folders:
            folder.mkdir()
            if (folder / "cpuset.cpus").exists() and not (
                folder / "cpuset.cpus"
            ).read_text().strip():
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (folder / file).write_text((folder.parent / file).read_text())

        def enter() -> None:
            for folder in folders:
                (folder / "cgroup.procs").write_text("0")

        hierarchies = " ".join(",".join(sorted(h.controllers)) for h in layout.v1)
        command = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup",
                   "--kill-child", "bash", "-c", SCRIPT, "bash", root, mode, hierarchies,
                   *needed()]  # fmt: skip
        with open(os.path.join(root, "said"), "w+") as said:
            outer = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=enter
            )
            undo.callback(_end, outer)
            yield Booted(_wait(outer, Path(said.name)), cgroup, layout)


def needed() -> list[str]:
    """Folders outside /usr that Python and this project are in; none is in another."""
    wanted = {str(ROOT), sys.prefix, sys.base_prefix, os.path.realpath(sys.prefix)}
    outside = sorted(path for path in wanted if not path.startswith("/usr"))
    return [p for p in outside if not any(p != q and p.startswith(q + "/") for q in outside)]


def _wait(outer: "subprocess.Popen[bytes]", said: Path) -> int:
    """Return the pid of the box's systemd once it has a bus."""
    deadline = time.monotonic() + _BOOT_TIMEOUT_S
    while time.monotonic() < deadline:
        assert outer.poll() is None, said.read_text()
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/root/run/dbus/system_bus_socket").is_socket():
            return int(children[0])
        time.sleep(0.02)
    raise AssertionError(f"systemd did not boot: {said.read_text()}")


def _end(outer: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        for child in children:
            pidfd = pidfd_open(int(child))
            pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
    outer.kill()
    outer.wait()


def _clear(cgroup: str, layout: Layout) -> None:
    left = open_cgroup(cgroup, layout=layout)
    left.kill()
    left.remove()
