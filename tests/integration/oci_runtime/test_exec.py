"""Another process in a container, by the program: who it is, where, and how it fails."""

import json
import os
import subprocess
from pathlib import Path

from tests.integration.oci_runtime.program import OCIBundle, Program, wait_for


def test_a_command_runs_with_its_output_and_exit_code(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    done = program.call("exec", name, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_options_of_the_command_are_its_own(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    assert program.ok("exec", name, "echo", "--tty", "-e", "x") == "--tty -e x\n"


def test_a_process_is_as_the_containers_first_with_what_the_options_change(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.process["env"] += ["OF=container", "CHANGED=before"]
    bundle.process["user"] = {"uid": 0, "gid": 0, "additionalGids": [5]}
    name = program.running(bundle)
    script = "id -u; id -g; id -G; pwd; echo $OF $CHANGED $NEW"
    assert program.ok("exec", name, "sh", "-c", script).split("\n")[:5] == [
        *("0", "0", "0 5", "/", "container before")
    ]
    options = ["--user", "7:8", "-g", "9", "--additional-gids", "10,11", "--cwd", "/tmp"]
    options += ["-e", "CHANGED=after", "--env", "NEW=new"]
    assert program.ok("exec", *options, name, "sh", "-c", script).split("\n")[:5] == [
        *("7", "8", "8 5 9 10 11", "/tmp", "container after new")
    ]


def test_a_user_must_be_numbers(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    for word in ("alice", "0x0", "-1", "1:", " 1", "+1", "1:2:3", "", "٣"):
        if word:
            assert "number" in program.refused("exec", "--user", word, name, "id"), word
    assert "invalid user" in program.refused("exec", "--user", str(1 << 31), name, "id")


def test_capabilities_are_added(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    words = ("exec", "--cap", "CAP_SYS_TIME", name, "grep", "CapEff", "/proc/self/status")
    more = int(program.ok(*words).split()[1], 16)
    fewer = int(program.ok("exec", name, "grep", "CapEff", "/proc/self/status").split()[1], 16)
    assert more == fewer | 1 << 25


def test_privileges_can_be_forgone(program: Program, bundle: OCIBundle) -> None:
    bundle.process["noNewPrivileges"] = False
    name = program.running(bundle)
    words = ("grep", "NoNewPrivs", "/proc/self/status")
    assert program.ok("exec", name, *words).split()[1] == "0"
    assert program.ok("exec", "--no-new-privs", name, *words).split()[1] == "1"


def test_a_process_can_come_from_a_file(
    program: Program, bundle: OCIBundle, tmp_path: Path
) -> None:
    name = program.running(bundle)
    file = tmp_path / "process.json"
    file.write_text(
        json.dumps(
            {"args": ["sh", "-c", "echo $A; pwd"], "env": ["PATH=/bin", "A=b"], "cwd": "/tmp"}
        )
    )
    assert program.ok("exec", "--process", file, name) == "b\n/tmp\n"
    file.write_text("[]")
    assert "process is to be an object" in program.refused("exec", "--process", file, name)
    assert "args cannot be empty" in program.refused("exec", name)


def test_it_is_in_the_namespaces_and_the_cgroup_of_the_container(
    program: Program, bundle: OCIBundle
) -> None:
    name = program.running(bundle)
    first = Path(f"/proc/{program.pid(name)}/ns")
    kinds = ("pid", "net", "mnt", "ipc", "uts", "cgroup")
    script = "for kind do readlink /proc/self/ns/$kind; done"
    inside = program.ok("exec", name, "sh", "-c", script, "sh", *kinds).split()
    assert inside == [os.readlink(first / kind) for kind in kinds]
    with open(os.devnull, "r+") as null:
        words = ["--detach", "--pid-file", str(program.folder / "pid"), name, "sleep", "605"]
        program.ok("exec", *words, stdout=null, stderr=null)
    pid = int((program.folder / "pid").read_text())
    assert pid in json.loads(program.ok("ps", "--format", "json", name))


def test_what_cannot_be_run_is_255_and_says_why(program: Program, bundle: OCIBundle) -> None:
    bundle.program("/bin/plain", "").chmod(0o644)
    name = program.running(bundle)
    for word, reason in (
        ("none", 'exec: "none": executable file not found in $PATH'),
        ("/bin/plain", 'exec: "/bin/plain": permission denied'),
        ("/bin/none", 'exec: "/bin/none": stat /bin/none: no such file or directory'),
    ):
        done = program.call("exec", name, word)
        assert done.returncode == 255
        assert reason in done.stderr.replace('\\"', '"')
    assert "no such file" in program.refused("exec", "--cwd", "/none", name, "true")


def test_it_needs_a_container_that_runs(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle, "true")
    program.ended(name)
    assert "cannot exec in a stopped container" in program.refused("exec", name, "true")
    created = program.create(bundle)
    assert program.ok("exec", created, "echo", "well") == "well\n"
    assert "container does not exist" in program.refused("exec", "none", "true")


def test_a_paused_container_takes_a_process_only_when_told(
    program: Program, bundle: OCIBundle
) -> None:
    name = program.running(bundle)
    program.ok("pause", name)
    assert "--ignore-paused" in program.refused("exec", name, "true")
    command: list[str | Path] = [program.script, "--root", program.root]
    command += ["exec", "--ignore-paused", name, "echo", "thawed"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as waiting:
        wait_for(lambda: len(json.loads(program.ok("ps", "-f", "json", name))) == 2)
        program.ok("resume", name)
        assert waiting.communicate()[0] == b"thawed\n"


def test_descriptors_are_passed_only_when_told(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    reader, writer = os.pipe()
    try:
        os.dup2(writer, 30)
        os.set_inheritable(30, True)
        listed = program.ok("exec", name, "ls", "/proc/self/fd", close_fds=False).split()
        assert "30" not in listed
        for low in range(3, 30):
            os.dup2(writer, low) if not is_open(low) else os.set_inheritable(low, True)
        listed = program.ok(
            *("exec", "--preserve-fds", "28", name, "ls", "/proc/self/fd"),
            pass_fds=tuple(fd for fd in range(3, 31)),
        ).split()
        assert {"3", "30"} <= set(listed)
    finally:
        os.close(reader)
        os.close(writer)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_sub_cgroup_can_be_named(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    paths = json.loads((program.root / name / "state.json").read_text())["cgroup_paths"]
    assert "no cgroup" in program.refused("exec", "--cgroup", "below", name, "true")
    below = Path(paths["pids"]) / "below"
    below.mkdir()
    done = program.ok("exec", "--cgroup", "pids:below", name, "cat", "/proc/self/cgroup")
    assert next(line for line in done.splitlines() if ":pids:" in line).endswith("/below")
    assert "below the container's" in program.refused("exec", "--cgroup", "../..", name, "true")


def test_a_command_that_is_killed_gives_128_and_the_signal(
    program: Program, bundle: OCIBundle
) -> None:
    name = program.running(bundle)
    assert program.call("exec", name, "sh", "-c", "kill -TERM $$").returncode == 143


def test_the_end_of_the_container_ends_its_processes(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    command: list[str | Path] = [program.script, "--root", program.root]
    command += ["exec", name, "sh", "-c", "echo up; sleep 600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        program.ok("kill", name, "KILL")
        assert running.wait(30) == 137
