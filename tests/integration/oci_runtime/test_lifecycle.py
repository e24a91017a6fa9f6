"""From created to deleted, by the program: what each command does, says and leaves."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.oci_runtime.program import OCIBundle, Program, wait_for


def ps(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_a_container_is_created_started_ended_and_deleted(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.process["args"] = ["sh", "-c", "echo ran; exec sleep 600"]
    name = program.create(bundle)
    created = program.state(name)
    assert created["status"] == "created"
    assert ps(created["pid"]).startswith("orlop") or ps(created["pid"]).startswith("python")
    assert bundle.output.read_text() == ""
    program.ok("start", name)
    wait_for(lambda: ps(created["pid"]) == "sleep")
    assert program.state(name)["status"] == "running"
    assert bundle.output.read_text() == "ran\n"
    program.ok("kill", name, "KILL")
    program.ended(name)
    assert program.state(name)["pid"] == 0
    program.ok("delete", name)
    assert "container does not exist" in program.refused("state", name)


def test_state_has_what_the_specification_and_runc_say(program: Program, bundle: OCIBundle) -> None:
    bundle.config["annotations"] = {"org.example.key": "value"}
    name = program.create(bundle)
    state = program.state(name)
    pid, created = state.pop("pid"), state.pop("created")
    assert Path(f"/proc/{pid}").exists()
    assert created.endswith("Z")
    assert state == {
        "ociVersion": bundle.config["ociVersion"],
        "id": name,
        "status": "created",
        "bundle": str(bundle.folder),
        "rootfs": str(bundle.root),
        "annotations": {"org.example.key": "value"},
        "owner": "",
    }


def test_list_has_all_containers_in_each_format(program: Program, bundle: OCIBundle) -> None:
    assert program.ok("list", "--format", "json") == "null\n"
    names = sorted((program.create(bundle), program.running(bundle, "sleep", "600")))
    assert program.ok("list", "--quiet").split() == names
    listed = json.loads(program.ok("list", "--format=json"))
    assert [state["id"] for state in listed] == names
    assert {state["owner"] for state in listed} == {"root"}
    head, *rows = program.ok("list").splitlines()
    assert head.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert {tuple(row.split()[2:4]) for row in rows} == {
        ("created", str(bundle.folder)),
        ("running", str(bundle.folder)),
    }


def test_others_find_in_state_json_what_runc_writes_there(
    program: Program, bundle: OCIBundle
) -> None:
    name = program.create(bundle)
    state = json.loads((program.root / name / "state.json").read_text())
    pid = program.pid(name)
    assert state["init_process_pid"] == pid
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert state["init_process_start"] == int(stat[19])
    assert state["config"]["rootfs"] == str(bundle.root)
    assert state["namespace_paths"]["NEWNS"] == f"/proc/{pid}/ns/mnt"
    assert {"type": "NEWPID", "path": ""} in state["config"]["namespaces"]
    assert f"bundle={bundle.folder}" in state["config"]["labels"]
    for path in state["cgroup_paths"].values():
        assert str(pid) in (Path(path) / "cgroup.procs").read_text().split()


def test_folders_of_containers_are_for_root_alone(program: Program, bundle: OCIBundle) -> None:
    name = program.create(bundle)
    for path in (program.root, program.root / name):
        assert path.stat().st_mode & 0o777 == 0o700
    for file in (program.root / name).iterdir():
        assert file.stat().st_mode & 0o177 == 0


@pytest.mark.parametrize("id_", ["", ".", "..", "a/b", "../x", "a b", "ä", "x" * 2000, "a\nb"])
def test_an_id_that_is_unsafe_in_a_path_is_refused(
    program: Program, bundle: OCIBundle, id_: str
) -> None:
    for command in (("create", "--bundle", str(bundle.write())), ("state",), ("delete", "-f")):
        assert "invalid container ID" in program.refused(*command, id_)
    assert not program.root.exists()


def test_an_id_is_taken_once(program: Program, bundle: OCIBundle) -> None:
    name = program.create(bundle)
    message = program.refused("create", "--bundle", bundle.write(), name)
    assert "container with given ID already exists" in message
    assert program.state(name)["status"] == "created"


def test_what_can_be_found_wrong_fails_at_create_and_leaves_nothing(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.process["args"] = ["no-such-program"]
    message = program.refused("create", "--bundle", bundle.write(), program.id())
    assert 'exec: "no-such-program": executable file not found in $PATH' in message
    bundle.process.update(args=["true"], cwd="/bin/busybox")
    program.refused("create", "--bundle", bundle.write(), program.id())
    bundle.process.update(cwd="/", user={"uid": 1 << 31, "gid": 0})
    assert "invalid user" in program.refused("create", "--bundle", bundle.write(), program.id())
    assert list(program.root.iterdir()) == []


def test_what_fails_after_the_gate_is_told_by_start(program: Program, bundle: OCIBundle) -> None:
    file = bundle.program("/bin/broken", "no program at all")
    bundle.process["args"] = ["/bin/broken"]
    name = program.create(bundle)
    file.chmod(0o644)
    assert 'exec: "/bin/broken": permission denied' in program.refused("start", name)
    program.ended(name)


def test_a_container_is_started_once(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    assert "already running" in program.refused("start", name)
    program.ok("kill", name, "9")
    program.ended(name)
    assert "cannot start a container that has stopped" in program.refused("start", name)


def test_a_created_container_that_is_killed_cannot_be_started(
    program: Program, bundle: OCIBundle
) -> None:
    name = program.create(bundle)
    program.ok("kill", name, "SIGKILL")
    program.ended(name)
    assert "cannot start a container that has stopped" in program.refused("start", name)


def test_kill_takes_names_and_numbers_of_signals(program: Program, bundle: OCIBundle) -> None:
    script = (
        'for s in USR1 USR2 TERM; do trap "echo $s" $s; done; echo up; while :; do sleep 0.02; done'
    )
    name = program.running(bundle, "sh", "-c", script)
    wait_for(lambda: bundle.output.read_text() == "up\n")
    for number, said in (("USR1", "USR1"), ("sigusr2", "USR2"), ("15", "TERM")):
        program.ok("kill", name, number)
        wait_for(lambda said=said: said in bundle.output.read_text())  # type: ignore[misc]
    assert 'unknown signal "FOO"' in program.refused("kill", name, "FOO")
    assert 'unknown signal "999"' in program.refused("kill", name, "999")


def test_a_container_that_has_stopped_takes_no_signal(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle, "true")
    program.ended(name)
    assert "container not running" in program.refused("kill", name, "KILL")


def test_kill_all_reaches_every_process(program: Program, bundle: OCIBundle) -> None:
    bundle.linux["namespaces"] = [e for e in bundle.linux["namespaces"] if e["type"] != "pid"]
    name = program.running(bundle, "sh", "-c", "sleep 601 & sleep 602 & echo up; wait")
    wait_for(lambda: bundle.output.read_text() == "up\n")
    pids = json.loads(program.ok("ps", "--format", "json", name))
    assert len(pids) == 3
    program.ok("kill", "--all", name, "KILL")
    wait_for(lambda: not any(alive(pid) for pid in pids))


def test_sigkill_takes_along_what_would_outlive_the_first_process(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.linux["namespaces"] = [e for e in bundle.linux["namespaces"] if e["type"] != "pid"]
    name = program.running(bundle, "sh", "-c", "sleep 601 & sleep 602 & echo up; wait")
    wait_for(lambda: bundle.output.read_text() == "up\n")
    pids = json.loads(program.ok("ps", "--format", "json", name))
    program.ok("kill", name, "KILL")
    wait_for(lambda: not any(alive(pid) for pid in pids))


def test_a_container_can_do_without_a_cgroup(program: Program, bundle: OCIBundle) -> None:
    words = ("--cgroup-manager", "disabled", "run", "--bundle", bundle.write(), program.id())
    bundle.process["args"] = ["cat", "/proc/self/cgroup"]
    bundle.linux["namespaces"] = [e for e in bundle.linux["namespaces"] if e["type"] != "cgroup"]
    bundle.write()
    assert program.ok(*words) == Path("/proc/self/cgroup").read_text()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_delete_takes_what_runs_only_by_force(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    pid = program.pid(name)
    message = program.refused("delete", name)
    assert f"cannot delete container {name} that is not stopped: running" in message
    program.ok("delete", "--force", name)
    assert not alive(pid)
    program.ok("delete", "--force", name)
    assert "container does not exist" in program.refused("delete", name)


def test_delete_takes_what_was_only_created(program: Program, bundle: OCIBundle) -> None:
    name = program.create(bundle)
    pid = program.pid(name)
    program.ok("delete", name)
    assert not alive(pid)


def test_delete_ends_what_a_container_without_a_pid_namespace_left(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.linux["namespaces"] = [e for e in bundle.linux["namespaces"] if e["type"] != "pid"]
    name = program.running(bundle, "sh", "-c", "sleep 603 & echo $!")
    program.ended(name)
    left = int(bundle.output.read_text())
    assert alive(left)
    program.ok("delete", name)
    assert not alive(left)


def test_a_paused_container_is_deleted_by_force(program: Program, bundle: OCIBundle) -> None:
    name = program.running(bundle)
    program.ok("pause", name)
    program.ok("delete", "--force", name)


def test_many_are_chosen_by_a_regular_expression(program: Program, bundle: OCIBundle) -> None:
    names = [program.create(bundle) for _ in range(2)]
    program.ok("kill", "--regex", "^orlop-test-", "KILL")
    for name in names:
        program.ended(name)
    program.ok("delete", "--regex", f"^({'|'.join(names)})$")
    assert program.ok("list", "-q") == ""


def test_a_pid_that_is_used_again_is_not_taken_for_the_container(
    program: Program, bundle: OCIBundle
) -> None:
    name = program.running(bundle)
    file = program.root / name / "state.json"
    record = json.loads(file.read_text())
    program.ok("kill", name, "KILL")
    program.ended(name)
    other = subprocess.Popen(["sleep", "600"])
    try:
        file.write_text(json.dumps({**record, "init_process_pid": other.pid}))
        assert program.state(name)["status"] == "stopped"
        program.refused("kill", name, "KILL")
        program.ok("delete", "--force", name)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_run_gives_the_containers_output_and_exit_code(program: Program, bundle: OCIBundle) -> None:
    done = program.run(bundle, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert program.run(bundle, "sh", "-c", "kill -9 $$").returncode in (0, 137)
    assert program.ok("list", "-q") == ""


def test_run_gives_128_and_the_signal_of_what_a_signal_ended(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.linux["namespaces"] = [e for e in bundle.linux["namespaces"] if e["type"] != "pid"]
    assert program.run(bundle, "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM


def test_run_keeps_what_it_is_told_to_keep(program: Program, bundle: OCIBundle) -> None:
    bundle.process["args"] = ["true"]
    name = program.id()
    program.ok("run", "--keep", "--bundle", bundle.write(), name)
    assert program.state(name)["status"] == "stopped"
    program.ok("delete", name)


def test_run_detached_leaves_the_container_running(program: Program, bundle: OCIBundle) -> None:
    name = program.id()
    bundle.process["args"] = ["sleep", "600"]
    with open(os.devnull, "r+") as null:
        how = {"stdout": null, "stderr": null}
        program.ok(
            "run", "-d", "-b", bundle.write(), "--pid-file", bundle.folder / "pid", name, **how
        )
    assert int((bundle.folder / "pid").read_text()) == program.pid(name)
    assert program.state(name)["status"] == "running"


def test_run_passes_signals_on(program: Program, bundle: OCIBundle) -> None:
    bundle.process["args"] = [
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo up; while :; do sleep 0.02; done",
    ]
    name = program.id()
    command: list[str | Path] = [program.script, "--root", program.root]
    command += ["run", "--bundle", bundle.write(), name]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    with running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 9
    assert program.ok("list", "-q") == ""


def test_the_bundle_is_the_current_folder_unless_named(program: Program, bundle: OCIBundle) -> None:
    bundle.process["args"] = ["echo", "here"]
    bundle.write()
    assert program.call("run", program.id(), cwd=bundle.folder).stdout == "here\n"
    os.rename(bundle.folder / "config.json", bundle.folder / "other.json")
    message = program.refused("run", "-b", bundle.folder, program.id())
    assert "config.json" in message
    done = program.call("run", "-b", bundle.folder, "--config", "other.json", program.id())
    assert done.stdout == "here\n"


def test_later_changes_to_the_bundle_do_not_reach_the_container(
    program: Program, bundle: OCIBundle
) -> None:
    name = program.running(bundle)
    (bundle.folder / "config.json").unlink()
    assert program.ok("exec", name, "echo", "well") == "well\n"


def test_what_a_bundle_had_better_not_say_is_warned_of(program: Program, bundle: OCIBundle) -> None:
    bundle.mount("/etc", "/usr", "rbind", "size=1m")
    bundle.capable("CAP_NO_SUCH")
    log = program.folder / "log"
    bundle.process["args"] = ["true"]
    program.ok("--log", log, "run", "--bundle", bundle.write(), program.id())
    lines = log.read_text().splitlines()
    assert len(lines) == 2 + ("not ours to give" in lines[-1])
    assert all(" level=warning msg=" in line for line in lines)
    assert "options size are for a file system" in lines[0]
    assert "CAP_NO_SUCH" in lines[1]


def test_kill_ends_what_has_outlived_the_first_process_in_a_shared_pid_namespace(
    program: Program, bundle: OCIBundle
) -> None:
    bundle.linux["namespaces"] = [e for e in bundle.linux["namespaces"] if e["type"] != "pid"]
    name = program.running(bundle, "sh", "-c", "sleep 600 & exec sleep 600")
    wait_for(lambda: len(program.ok("ps", "-f", "json", name).split(",")) == 2)
    os.kill(program.pid(name), signal.SIGKILL)
    program.ended(name)
    assert len(json.loads(program.ok("ps", "-f", "json", name))) == 1
    assert "container not running" in program.refused("kill", name, "TERM")
    program.ok("kill", name, "KILL")
    wait_for(lambda: not json.loads(program.ok("ps", "-f", "json", name)))
    assert "container not running" in program.refused("kill", name, "KILL")


def test_what_of_a_bundle_is_left_out_is_warned_of(program: Program, bundle: OCIBundle) -> None:
    bundle.process["capabilities"]["ambient"] = ["CAP_CHOWN", "CAP_KILL"]
    bundle.process["capabilities"]["inheritable"] = ["CAP_KILL"]
    permitted = bundle.process["capabilities"]["permitted"]
    bundle.process["capabilities"]["effective"] = [*permitted, "CAP_SYSLOG"]
    rule = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwa"}
    bundle.linux["resources"] = {"devices": [rule]}
    log = program.folder / "log"
    bundle.process["args"] = ["true"]
    program.ok("--log", log, "run", "--bundle", bundle.write(), program.id())
    told = log.read_text()
    assert "devices[0].access 'rwa': only r, w and m are known" in told
    assert "capabilities.effective: ignored, for they are not permitted too: CAP_SYSLOG" in told
    assert 'not permitted and inheritable too: CAP_CHOWN"' in told
