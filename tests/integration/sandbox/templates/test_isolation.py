"""What the code of one run, which nobody trusts, can do to the next, to others, to the template."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import orlop
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import wait_until

WRITE = """
import os
written = []
folders = [line.split()[4] for line in open("/proc/self/mountinfo")]
for top in ("/", "/etc", "/root", "/home", "/tmp", "/usr/local", "/var/tmp", *folders):
    try:
        with open(os.path.join(top, "marked"), "x") as file:
            written.append(file.name)
    except OSError:
        pass
for file in ("hosts", "hostname", "resolv.conf", "passwd", "../proc/sys/vm/swappiness"):
    try:
        open(f"/etc/{file}", "a").write("marked")
        written.append(f"/etc/{file}")
    except OSError:
        pass
print(written)
"""

LOOK = """
import os, subprocess
marked = subprocess.run(
    "find / -xdev -name marked; find /dev /run /tmp -name marked;"
    " grep -l marked /etc/hosts /etc/hostname /etc/resolv.conf /etc/passwd",
    shell=True,
    capture_output=True,
)
print(marked.stdout.split())
"""


def test_nothing_that_a_run_writes_is_there_for_the_next(template: orlop.Template) -> None:
    written = eval(template.run(WRITE).stdout)
    assert {"/marked", "/etc/marked", "/tmp/marked", "/dev/shm/marked", "/etc/passwd"} <= {*written}
    assert not {"/etc/hosts", "/etc/../proc/sys/vm/swappiness", "/dev/marked"} & {*written}
    assert template.run(LOOK).stdout == b"[]\n"


def test_nothing_that_a_run_changes_in_memory_is_there_for_the_next(
    template: orlop.Template,
) -> None:
    spoil = """
import builtins, gc, json, sys
kept.append("spoilt")
json.dumps = builtins.print = None
for thing in gc.get_objects():
    if isinstance(thing, dict) and "_most_message" in str(thing).lower():
        thing.clear()
"""
    template.run(spoil)
    assert template.run("print(kept, json.dumps(1))").stdout == b"[] 1\n"


def test_run_sees_no_process_but_its_own(template: orlop.Template) -> None:
    look = """
import os, sys
print(sorted(int(n) for n in os.listdir("/proc") if n.isdigit()))
print(sorted(int(n) for n in os.listdir("/proc/self/fd"))[:3], len(os.listdir("/proc/self/fd")))
for name in ("mem", "environ", "maps", "root/etc/passwd", *(f"fd/{n}" for n in range(3, 9))):
    try:
        open(f"/proc/1/{name}").read(1)
        print("read", name)
    except OSError:
        pass
for signal in range(1, 65):
    try:
        os.kill(1, signal)
    except OSError:
        pass
"""
    result = template.run(look, timeout=60)
    assert result.stdout.splitlines() == [b"[1, 2]", b"[0, 1, 2] 4"]
    assert result.exit_code == 0


def test_run_has_no_rights_and_the_default_policy(template: orlop.Template) -> None:
    status = template.run("print(open('/proc/self/status').read())").stdout.decode()
    found = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(found[name], 16) == 0
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    attempts = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def refused(name, *words):
    print(name, libc[name](*words) == -1 and ctypes.get_errno())
refused("unshare", 0x10000000)
refused("unshare", 0x20000)
refused("mount", b"x", b"/tmp", b"tmpfs", 0, None)
refused("umount2", b"/proc", 2)
refused("setns", 0, 0)
refused("ptrace", 16, 1, None, None)
refused("syscall", 435, None, 0)
"""
    names = ("unshare", "unshare", "mount", "umount2", "setns", "ptrace")
    expected = [*(f"{name} 1" for name in names), "syscall 38"]
    assert template.run(attempts).stdout.decode().splitlines() == expected


def test_runs_at_the_same_time_cannot_meet(engine: EngineProcess, tmp_path: Path) -> None:
    listen = """
import ctypes, os, socket, time
libc = ctypes.CDLL(None)
assert libc.shmget(4711, 4096, 0o1666) >= 0
place = socket.socket(socket.AF_UNIX); place.bind("\\0meeting"); place.listen()
port = socket.create_server(("127.0.0.1", 4711))
open("/shared/there", "w").close()
while os.path.exists("/shared/there"):
    time.sleep(0.02)
print("waited")
"""
    meet = """
import ctypes, os, socket
print(ctypes.CDLL(None).shmget(4711, 4096, 0o666))
for family, where in ((socket.AF_UNIX, "\\0meeting"), (socket.AF_INET, ("127.0.0.1", 4711))):
    try:
        socket.socket(family).connect(where)
        print("met")
    except ConnectionRefusedError:
        print("alone")
"""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with (
        orlop.Template(engine=engine.url, mounts=[f"{shared}:/shared"]) as template,
        ThreadPoolExecutor(1) as threads,
    ):
        other = threads.submit(template.run, listen, timeout=120)
        try:
            wait_until((shared / "there").exists, "nobody listens")
            assert template.run(meet).stdout.split() == [b"-1", b"alone", b"alone"]
        finally:
            (shared / "there").unlink(missing_ok=True)
        assert other.result().stdout == b"waited\n"


def test_exit_code_cannot_be_forged(template: orlop.Template) -> None:
    forge = """
import os, socket, sys
for fd in range(3, 1024):
    try:
        os.write(fd, b'{"status": 0, "usage": []}')
    except OSError:
        pass
os._exit(5)
"""
    assert template.run(forge).exit_code == 5


@pytest.mark.parametrize("network", ["none", "host"])
def test_setup_has_no_rights_outside_its_user_namespace(
    engine: EngineProcess, network: str
) -> None:
    setup = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
print(open("/proc/self/status").read())
tried = [libc.unshare(0x10000000), libc.syscall(321, 0, None, 0)]
inside = open("/proc/self/uid_map").read().split()
"""
    with orlop.Template(engine=engine.url, setup=setup, network=network) as template:
        outside, size = template.run("print(tried, *inside)").stdout.split()[-2:]
        assert template.run("print(tried)").stdout == b"[-1, -1]\n"
        assert int(outside) > 65536
        assert int(size) == 65536
