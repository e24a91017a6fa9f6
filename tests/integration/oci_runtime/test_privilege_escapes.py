"""Users, groups, capabilities and cgroups that would be more than what was asked for."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from orlop.runtime.seccomp_default import profile
from tests.integration.oci_runtime.program import OCIBundle, Program, cgroups

#: What must never be taken for a user, and least of all for root (CVE-2026-30892).
NO_USERS = (
    *("0x0", "0x3e8", "1:", ":", "-1", "-0", "+0", " 0", "0 ", "1 000", "1_000", "1e3", "0b1", "٣"),
    *("2147483648", "4294967295", "4294967296", "18446744073709551616", "1:2147483648", "1:-1"),
    *("root", "alice", "0:root", "1:2:3", "0\n", "\t0", "0.0", "0o0"),
)


def status(program: Program, name: str, *words: str) -> dict[str, str]:
    """Return /proc/self/status as a process that `exec` makes sees it."""
    text = program.ok("exec", *words, name, "cat", "/proc/self/status")
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


@pytest.mark.parametrize("user", NO_USERS)
def test_a_user_of_exec_that_is_no_number_is_nobody(
    program: Program, bundle: OCIBundle, user: str
) -> None:
    """It is refused before the container is looked at, and says which word was wrong."""
    name = program.running(bundle)
    done = program.call("exec", "--user=" + user, name, "id")
    assert done.returncode == 255
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("user", "uid", "gid"), [("7", 7, 0), ("7:8", 7, 8), ("2147483647", 2147483647, 0)]
)
def test_a_user_of_exec_is_who_it_says(
    program: Program, bundle: OCIBundle, user: str, uid: int, gid: int
) -> None:
    name = program.running(bundle)
    said = status(program, name, "--user", user)
    assert said["Uid"].split() == [str(uid)] * 4
    assert said["Gid"].split() == [str(gid)] * 4
    assert said["Groups"].split() == []


@pytest.mark.parametrize("key", ["uid", "gid", "additionalGids"])
@pytest.mark.parametrize(
    "number", [2147483648, 4294967295, 4294967296, 1 << 63, 1 << 64, -1, 1.5, "0", True, [0]]
)
def test_an_id_that_is_out_of_bounds_is_not_root(
    program: Program, bundle: OCIBundle, key: str, number: Any
) -> None:
    """CVE-2024-40635: 2**31 and more wrapped around to 0."""
    bundle.process["user"] = {"uid": 5, "gid": 5}
    bundle.process["user"][key] = [number] if key == "additionalGids" else number
    line = program.refused("run", "--bundle", bundle.write(), program.id())
    assert key in line or "user or group id" in line


@pytest.mark.parametrize("words", [(), ("--user", "1000:1000"), ("--cap", "CAP_NET_RAW")])
def test_no_capability_is_inheritable_or_ambient(
    program: Program, bundle: OCIBundle, words: tuple[str, ...]
) -> None:
    """CVE-2022-29162, CVE-2022-24769: it would outlive a change of user."""
    name = program.running(bundle)
    first = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{program.pid(name)}/status").read_text().splitlines()
    )
    for said in (first, status(program, name, *words)):
        assert int(said["CapInh"], 16) == 0
        assert int(said["CapAmb"], 16) == 0


def test_a_user_that_is_not_root_keeps_no_capability(program: Program, bundle: OCIBundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    done = program.run(bundle, "cat", "/proc/self/status")
    said = dict(line.split(":", 1) for line in done.stdout.splitlines())
    assert {int(said[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert said["Groups"].split() == []


def test_groups_of_the_callers_are_not_the_containers(program: Program, bundle: OCIBundle) -> None:
    bundle.process["args"] = ["id", "-G"]
    said = program.call(
        "run", "--bundle", bundle.write(), program.id(), extra_groups=[4, 27]
    ).stdout
    assert said.split() == ["0"]


def test_no_variable_of_the_callers_is_the_containers(program: Program, bundle: OCIBundle) -> None:
    program.environment["SECRET_OF_THE_HOST"] = "1"
    assert "SECRET" not in program.run(bundle, "env").stdout
    name = program.running(bundle)
    assert "SECRET" not in program.ok("exec", name, "env")
    assert "SECRET" not in program.ok("exec", name, "cat", "/proc/1/environ")


def test_a_release_agent_cannot_be_set(program: Program, bundle: OCIBundle) -> None:
    """CVE-2022-0492: a program of the host's choice would run as root of the host's."""
    script = """
        for file in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release); do
            if { echo /evil > $file; } 2> /dev/null; then echo "wrote $file"; fi
        done
        mkdir /tmp/c
        mount -t cgroup -o memory none /tmp/c 2> /dev/null && echo mounted
        unshare -Ur mount -t cgroup -o memory none /tmp/c 2> /dev/null && echo unshared
        unshare -UrmC sh -c 'mount -t cgroup -o rdma,memory none /tmp/c' 2> /dev/null && echo both
        echo done
    """
    bundle.linux["seccomp"] = profile()
    assert program.sh(bundle, script) == "done\n"


def test_a_cgroup_cannot_be_written_to(program: Program, bundle: OCIBundle) -> None:
    bundle.linux["resources"] = {"pids": {"limit": 33}}
    script = """
        for file in $(find /sys/fs/cgroup -name cgroup.procs -o -name 'pids.max'); do
            if { echo 1 > $file; } 2> /dev/null; then echo "wrote $file"; fi
        done
        for folder in /sys/fs/cgroup /sys/fs/cgroup/*; do
            mkdir $folder/x 2> /dev/null && echo made
        done
        echo done
    """
    assert program.sh(bundle, script) == "done\n"


def test_an_annotation_changes_nothing(program: Program, bundle: OCIBundle) -> None:
    """CVE-2024-3154: annotations became properties of systemd's, and limits."""
    bundle.config["annotations"] = {
        "org.systemd.property.ExecStartPre": "'/bin/touch /evil'",
        "io.kubernetes.cri-o.UnifiedCgroup": "memory.max=1",
        "run.oci.handler": "/evil",
        "run.oci.hooks.stdout": "/evil",
        "org.criu.config": "/evil",
    }
    assert program.sh(bundle, "cat /sys/fs/cgroup/pids/pids.max || echo max") == "max\n"
    assert not Path("/evil").exists()


def test_what_kill_and_delete_mean_is_the_container_and_not_a_pid(
    program: Program, bundle: OCIBundle
) -> None:
    """A state file with the pid of another process, as after its reuse."""
    name = program.running(bundle)
    pid = program.pid(name)
    file = program.root / name / "state.json"
    good = file.read_text()
    state = json.loads(good)
    state["init_process_pid"] = 1
    file.write_text(json.dumps(state))
    assert program.state(name)["status"] == "stopped"
    program.refused("kill", name, "KILL")
    file.write_text(good)
    assert program.pid(name) == pid


def test_cgroups_deeper_than_any_path_are_taken_away(program: Program, bundle: OCIBundle) -> None:
    """A container that may write to its cgroups makes them one below the other."""
    for mount in bundle.config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"] = []
    name = program.running(bundle)
    state = json.loads((program.root / name / "state.json").read_text())
    here = os.open(state["cgroup_paths"]["pids"], os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("a", dir_fd=here)
        below = os.open("a", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    inside = os.open("cgroup.procs", os.O_WRONLY, dir_fd=here)
    os.write(inside, str(program.pid(name)).encode())
    os.close(inside)
    os.close(here)
    program.ok("delete", "--force", name)
    assert cgroups([name]) == []
