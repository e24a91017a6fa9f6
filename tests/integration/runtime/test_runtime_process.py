"""The process: who it is, what it may do, where it runs, and how it fails."""

import contextlib
import os
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    InvalidArgumentError,
    OrlopError,
    UnsupportedError,
    WrongStateError,
)
from orlop.kernel import terminal
from orlop.kernel.capabilities import mask
from orlop.kernel.process import pidfd_send_signal, wait_exit
from orlop.runtime.bundle import Gate, Starting, Stdio
from orlop.runtime.execute import execute
from orlop.runtime.parent import wait_created
from orlop.runtime.start import wait_ready
from tests.integration.runtime.box import CAPABILITIES, Box


def status(box: Box, *fields: str) -> list[str]:
    """Return fields of /proc/self/status in the container."""
    text = box.run("cat", "/proc/self/status").output
    lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return [" ".join(lines[field].split()) for field in fields]


def test_capabilities_are_the_named_ones_in_each_set(box: Box) -> None:
    box.process["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    }
    box.process["user"] = {"uid": 7, "gid": 7}
    assert status(box, "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") == [
        f"{bits:016x}" for bits in (0x20, 0x20, 0x20, 0x21, 0x20)
    ]


def test_without_capabilities_there_are_none(box: Box) -> None:
    del box.process["capabilities"]
    assert set(status(box, "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")) == {"0" * 16}


def test_nothing_is_inheritable_by_default_and_in_exec(box: Box) -> None:
    running = box.sleeping()
    result = box.exec(running, "grep", "CapInh", "/proc/self/status")
    assert result.output.split()[1] == "0" * 16


def test_user_group_and_more_groups_are_set(box: Box) -> None:
    box.process["user"] = {"uid": 12, "gid": 34, "additionalGids": [56, 78], "umask": 0o077}
    assert status(box, "Uid", "Gid", "Groups", "Umask") == [
        "12 12 12 12",
        "34 34 34 34",
        "56 78",
        "0077",
    ]


def test_more_groups_may_be_names(box: Box) -> None:
    box.process["user"] = {"uid": 1, "gid": 1, "additionalGroups": ["audio", "123"]}
    assert status(box, "Groups") == ["29 123"]


@pytest.mark.parametrize(
    "name",
    [
        "nobody-here",
        "-1",
        "1:",
        "0x0",
        " 0",
        "0 ",
        "+0",
        "2147483648",
        "4294967296",
        "1:2:3",
        "1e0",
    ],
)
def test_a_user_that_is_nobody_is_refused(box: Box, name: str) -> None:
    box.process["user"] = {"username": name}
    with pytest.raises(OrlopError, match=r"user|group"):
        box.run("id")


def test_a_user_id_that_would_wrap_around_is_refused(box: Box) -> None:
    box.process["user"] = {"uid": 1 << 31, "gid": 0}
    with pytest.raises(InvalidArgumentError, match="2147483648"):
        box.run("id")


def test_no_new_privileges_is_set_only_when_asked(box: Box) -> None:
    assert status(box, "NoNewPrivs") == ["0"]
    box.process["noNewPrivileges"] = True
    assert status(box, "NoNewPrivs") == ["1"]


def test_limits_are_set_and_clamped_where_they_cannot_be_raised(box: Box) -> None:
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    box.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_MEMLOCK", "soft": 1 << 50, "hard": 1 << 50},
    ]
    output = box.sh("ulimit -Sn; ulimit -Hn; ulimit -Hl").split()
    assert output[:2] == ["100", "200"]
    assert hard == resource.RLIM_INFINITY or output[2] in (str(hard // 1024), str(1 << 40))


def test_the_smallest_memory_limit_is_enough_to_start(box: Box) -> None:
    box.linux["resources"] = {"memory": {"limit": 6 << 20}}
    assert box.sh("echo started") == "started\n"


def test_an_oom_score_is_raised_and_lowering_is_tolerated(box: Box) -> None:
    box.process["oomScoreAdj"] = 500
    assert box.sh("cat /proc/self/oom_score_adj").strip() == "500"
    box.process["oomScoreAdj"] = -900
    box.sh("true")


def test_sysctls_of_a_namespace_are_written(box: Box) -> None:
    box.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}
    output = box.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
    assert output.split() == ["1", "4096"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kernel.core_pattern", "x"),
        ("vm.swappiness", "1"),
        ("net/../kernel/core_pattern", "x"),
        ("net.ipv4.ip_forward", "1\nkernel.core_pattern=x"),
        ("kernel.msgmax+x", "1"),
    ],
)
def test_a_sysctl_of_the_hosts_is_refused(box: Box, key: str, value: str) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    box.linux["sysctl"] = {key: value}
    with pytest.raises(InvalidArgumentError, match="sysctl"):
        box.run("true")
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_a_sysctl_of_a_namespace_that_is_joined_must_not_be_the_hosts(box: Box) -> None:
    other = Box(box.folder / "other")
    box.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    entry = next(n for n in box.linux["namespaces"] if n["type"] == "network")
    try:
        entry["path"] = f"/proc/{other.sleeping().pid}/ns/net"
        assert box.sh("cat /proc/sys/net/ipv4/ip_forward") == "1\n"
        entry["path"] = "/proc/self/ns/net"
        with pytest.raises(InvalidArgumentError, match=r"net\.ipv4\.ip_forward.*net namespace"):
            box.run("true")
    finally:
        other.close()


def test_a_network_sysctl_on_the_hosts_network_is_refused(box: Box) -> None:
    box.linux["namespaces"] = [n for n in box.linux["namespaces"] if n["type"] != "network"]
    box.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    with pytest.raises(InvalidArgumentError, match="net namespace"):
        box.run("true")


def test_the_working_directory_is_made_and_entered(box: Box) -> None:
    box.process["cwd"] = "/new/work"
    assert box.sh("pwd") == "/new/work\n"


def test_the_working_directory_is_made_in_a_read_only_root(box: Box) -> None:
    box.config["root"] = {"path": "rootfs", "readonly": True}
    box.process["cwd"] = "/new/work"
    assert box.run("sh", "-c", "pwd; mkdir /new/other 2>&1").output.startswith("/new/work\n")
    assert not (box.upper / "new/other").exists()


def test_signals_are_as_for_a_fresh_process(box: Box) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        found = status(box, "SigBlk", "SigIgn", "SigCgt")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert found[0] == "0" * 16
    assert found[1] == "0" * 16


def test_it_leads_a_session_of_its_own(box: Box) -> None:
    assert (
        box.sh("cut -d' ' -f 1,6 /proc/self/stat; cut -d' ' -f 6 /proc/1/stat").split()[-1] == "1"
    )


def test_standard_streams_belong_to_the_user(box: Box) -> None:
    box.process["user"] = {"uid": 1000, "gid": 1000}
    assert box.sh("echo hello > /dev/stdout") == "hello\n"


@pytest.mark.parametrize(
    ("command", "error", "text"),
    [
        ("nosuch", CommandNotFoundError, 'exec: "nosuch": executable file not found in $PATH'),
        (
            "/nosuch",
            CommandNotFoundError,
            'exec: "/nosuch": stat /nosuch: no such file or directory',
        ),
        ("/etc", CommandNotExecutableError, 'exec: "/etc": is a directory'),
        ("/etc/passwd", CommandNotExecutableError, 'exec: "/etc/passwd": permission denied'),
        ("/etc/script", CommandNotExecutableError, 'exec: "/etc/script": exec format error'),
        ("/etc/lost", CommandNotFoundError, 'exec: "/etc/lost": no such file or directory'),
    ],
)
def test_a_command_that_cannot_run_says_why(
    box: Box, command: str, error: type[OrlopError], text: str
) -> None:
    (box.lower / "etc/script").write_bytes(b"\x01\x02")
    (box.lower / "etc/script").chmod(0o755)
    (box.lower / "etc/lost").write_text("#!/no/interpreter\n")
    (box.lower / "etc/lost").chmod(0o755)
    with pytest.raises(error) as caught:
        box.run(command)
    assert str(caught.value) == f"cannot start container {box.id}: {text}"


def test_the_exit_code_is_the_programs(box: Box) -> None:
    assert box.run("sh", "-c", "exit 42").status == 42
    assert box.run("sh", "-c", "kill -KILL $$; sleep 5").status in (0, 137)  # pid 1 ignores it


@pytest.fixture
def gate() -> Iterator[Gate]:
    consent, consenting = os.pipe()
    yield Gate(consent, consenting)
    os.close(consent)
    with contextlib.suppress(OSError):  # a test may have closed it
        os.close(consenting)


def start_at(gate: Gate, box: Box) -> Starting:
    box.process["args"] = ["sleep", "600"]
    with open(os.devnull, "r+") as null:
        return box.start(Stdio(*[null.fileno()] * 3), gate=gate)


def test_the_gate_holds_the_program_until_it_opens(box: Box, gate: Gate) -> None:
    starting = start_at(gate, box)
    wait_created(starting)
    assert Path(f"/proc/{starting.pid}/exe").readlink().name.startswith("python")
    os.write(gate.consenting, b"g")
    wait_ready(starting)
    assert Path(f"/proc/{starting.pid}/comm").read_text() == "sleep\n"


@pytest.mark.parametrize("user", [0, 7])
def test_a_process_at_its_gate_has_no_rights_that_it_does_not_need(
    box: Box, gate: Gate, user: int
) -> None:
    box.process["user"]["uid"] = user
    starting = start_at(gate, box)
    wait_created(starting)
    status = Path(f"/proc/{starting.pid}/status").read_text()
    (permitted,) = re.findall(r"CapPrm:\s+(\w+)", status)
    assert not int(permitted, 16) & ~mask([*CAPABILITIES, "CAP_SETPCAP"])


def test_a_gate_that_closes_ends_the_process(box: Box, gate: Gate) -> None:
    starting = start_at(gate, box)
    wait_created(starting)
    os.close(gate.consenting)
    with pytest.raises(OrlopError, match="called off"):
        wait_ready(starting)
    box.running.remove(starting)


def test_what_can_be_found_wrong_is_told_before_the_gate(box: Box, gate: Gate) -> None:
    box.process["cwd"] = "/proc/self/fd/3"
    starting = start_at(gate, box)
    with pytest.raises(OrlopError, match="working directory"):
        wait_created(starting)
    box.running.remove(starting)


def test_a_child_killed_before_the_program_is_an_error_and_leaves_nothing(
    box: Box, gate: Gate
) -> None:
    starting = start_at(gate, box)
    wait_created(starting)
    pidfd_send_signal(starting.pidfd, signal.SIGKILL)
    with pytest.raises(OrlopError, match="ended before"):
        wait_ready(starting)
    box.running.remove(starting)


def test_a_terminal_is_made_in_the_container_and_given_to_the_caller(box: Box) -> None:
    box.process.update(terminal=True, consoleSize={"height": 20, "width": 77})
    box.process["args"] = [
        "sh",
        "-c",
        "tty; stty size; stat -c %t:%T /dev/console; echo x >/dev/tty",
    ]
    starting = box.start()
    assert starting.console is not None
    wait_ready(starting)
    output = b""
    try:
        while part := os.read(starting.console, 1000):
            output += part
    except OSError:  # EIO: the other end is closed
        pass
    assert output.decode().split() == ["/dev/pts/0", "20", "77", "88:0", "x"]
    assert box.finish(starting) == 0


def test_a_terminal_can_be_resized_from_outside(box: Box) -> None:
    box.process.update(terminal=True)
    box.process["args"] = ["sh", "-c", "read line; stty size"]
    starting = box.start()
    assert starting.console is not None
    wait_ready(starting)
    terminal.set_size(starting.console, height=31, width=99)
    os.write(starting.console, b"go\n")
    assert wait_exit(starting.pidfd) == 0
    assert os.read(starting.console, 1000).decode().split() == ["go", "31", "99"]
    os.close(starting.pidfd)
    os.close(starting.console)
    box.running.remove(starting)
    assert starting.cgroup is not None
    starting.cgroup.remove()


def test_a_terminal_start_that_fails_says_why(box: Box) -> None:
    box.process.update(terminal=True, args=["nosuch"])
    with pytest.raises(CommandNotFoundError):
        wait_ready(box.start())
    box.running.clear()


def test_a_process_without_streams_or_terminal_is_refused(box: Box) -> None:
    with pytest.raises(InvalidArgumentError, match="standard streams"):
        box.start()


def test_exec_joins_the_containers_namespaces_and_cgroup(box: Box) -> None:
    running = box.sleeping()
    result = box.exec(
        running,
        "sh",
        "-c",
        "hostname; cat /proc/1/comm; readlink /proc/self/ns/mnt; cat /proc/self/cgroup",
    )
    lines = result.output.splitlines()
    assert lines[:3] == ["inside", "sleep", os.readlink(f"/proc/{running.pid}/ns/mnt")]
    assert {line.split(":")[2] for line in lines[3:]} == {"/"}
    assert socket.gethostname() != "inside"


def test_exec_has_a_user_and_a_terminal_of_its_own(box: Box) -> None:
    running = box.sleeping()
    result = box.exec(running, "sh", "-c", "id -u; pwd", user={"username": "alice"}, cwd="/tmp")
    assert result.output.split() == ["1000", "/tmp"]


def test_exec_with_a_terminal(box: Box) -> None:
    running = box.sleeping()
    wanted = {**box.process, "args": ["sh", "-c", "tty; id -u"], "terminal": True}
    made = execute(box.target(running), wanted, None)  # type: ignore[arg-type] # built of Any
    box.running.append(made)
    assert made.console is not None
    wait_ready(made)
    output = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while part := os.read(made.console, 1000):
            output += part
    assert output.split() == [b"/dev/pts/0", b"0"]
    assert box.finish(made) == 0


def share_out(folder: Path, controller: str, undo: contextlib.ExitStack) -> None:
    """Let the cgroups below *folder* have *controller*, for a while."""
    file = folder / "cgroup.subtree_control"
    if controller not in file.read_text():
        file.write_text(f"+{controller}")
        undo.callback(file.write_text, f"-{controller}")


def test_exec_works_where_the_container_shares_out_its_cgroup(box: Box) -> None:
    running = box.sleeping()
    assert running.cgroup is not None
    folder = Path(running.cgroup.directories[""])
    with contextlib.ExitStack() as undo:
        for shared in (folder.parent.parent, folder.parent):
            share_out(shared, "hugetlb", undo)
        (folder / "init").mkdir()
        (folder / "init/cgroup.procs").write_text(str(running.pid))
        share_out(folder, "hugetlb", undo)
        assert "0::/init" in box.exec(running, "cat", "/proc/self/cgroup").output


def test_exec_of_a_missing_command_leaves_the_container_alone(box: Box) -> None:
    running = box.sleeping()
    with pytest.raises(CommandNotFoundError, match="nosuch"):
        box.exec(running, "nosuch")
    assert box.exec(running, "echo", "well").output == "well\n"


def test_exec_in_a_container_that_ended_says_so(box: Box) -> None:
    running = box.sleeping()
    pidfd_send_signal(running.pidfd, signal.SIGKILL)
    while Path(f"/proc/{running.pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)
    with pytest.raises(WrongStateError, match="not running"):
        box.exec(running, "true")


def test_every_process_has_a_session_keyring_of_its_own(box: Box) -> None:
    del box.linux["maskedPaths"]
    running = box.sleeping()
    keys = box.exec(running, "cat", "/proc/keys").output
    assert keys.count(f"_ses.{box.id}") == 2


@pytest.mark.parametrize(
    ("field", "kind"), [("apparmorProfile", "AppArmor"), ("selinuxLabel", "SELinux")]
)
def test_a_label_that_this_host_knows_nothing_of_is_refused_by_its_field(
    box: Box, field: str, kind: str
) -> None:
    if kind == "AppArmor" and Path("/sys/module/apparmor").exists():
        pytest.skip("this host has AppArmor")
    if "selinuxfs" in Path("/proc/filesystems").read_text() and kind == "SELinux":
        pytest.skip("this host has SELinux")
    box.process[field] = "label"
    with pytest.raises(UnsupportedError, match=rf"process\.{field}: this host has no {kind}"):
        box.run("true")


@pytest.mark.parametrize("field", ["mountLabel", "intelRdt"])
def test_what_this_host_cannot_do_is_refused_by_its_field(box: Box, field: str) -> None:
    if "selinuxfs" in Path("/proc/filesystems").read_text() and field == "mountLabel":
        pytest.skip("this host has SELinux")
    box.linux[field] = "label" if field == "mountLabel" else {"closID": "x"}
    with pytest.raises(UnsupportedError, match=rf"linux\.{field}"):
        box.run("true")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hostname": "h" * 65}, "hostname"),
        ({"domainname": "h" * 65}, "domainname"),
        ({"linux": {"maskedPaths": ["a"]}}, r"linux\.maskedPaths\[0\]"),
        ({"linux": {"readonlyPaths": ["/a", "b"]}}, r"linux\.readonlyPaths\[1\]"),
        ({"linux": {"rootfsPropagation": "x"}}, r"linux\.rootfsPropagation"),
        ({"linux": {"namespaces": [{"type": "x"}]}}, r"linux\.namespaces\[0\]\.type"),
        ({"process": {"oomScoreAdj": 1001}}, r"process\.oomScoreAdj"),
        ({"process": {"cwd": "x"}}, r"process\.cwd"),
        ({"process": {"rlimits": [{"type": "x", "soft": 1, "hard": 1}]}}, r"process\.rlimits\[0\]"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(box: Box, change: Any, field: str) -> None:
    whole: Any = box.config
    for key, value in change.items():
        whole[key] = {**whole[key], **value} if isinstance(value, dict) else value
    with pytest.raises(InvalidArgumentError, match=field):
        box.run("true")


def test_a_user_that_the_namespace_does_not_map_is_refused(box: Box) -> None:
    box.linux["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 200_000, "size": 100}]
    box.linux["uidMappings"] = box.linux["gidMappings"] = mapping
    box.process["user"] = {"uid": 100, "gid": 0}
    with pytest.raises(InvalidArgumentError, match="leave out 100"):
        box.run("true")
