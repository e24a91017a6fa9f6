"""A process's life in the shim's hands: start, output, end."""

import json
import os
import shutil
import signal

import pytest

from .harness import FailedError, Shim, children, eventually, state_of


def test_output_and_exit_code_of_a_container_are_kept(shim: Shim) -> None:
    event = shim.run_to_end("one", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (event["status"], event["signal"], event["oom"]) == (3, 0, False)
    entries = [json.loads(line) for line in shim.log_path("one").read_text().splitlines()]
    assert {(entry["stream"], entry["log"]) for entry in entries} == {
        ("stdout", "out\n"),
        ("stderr", "err\n"),
    }


@pytest.mark.parametrize(("command", "status"), [("true", 0), ("false", 1)])
def test_exit_code_is_the_programs_own(shim: Shim, command: str, status: int) -> None:
    assert shim.run_to_end("code", command)["status"] == status


def test_killed_container_exits_with_128_and_the_signal(shim: Shim) -> None:
    shim.start("victim", "sleep", "100")
    shim.request(op="signal", id="victim", signal=int(signal.SIGKILL))
    event = shim.wait_exit("victim")
    assert (event["status"], event["signal"]) == (137, 9)


def test_container_killed_for_want_of_memory_says_so(shim: Shim) -> None:
    shim.linux["resources"] = {"memory": {"limit": 8 << 20, "swap": 8 << 20}}
    event = shim.run_to_end("hungry", "sh", "-c", "exec head -c 100m /dev/zero | tail")
    assert event["oom"]


def test_process_that_shares_the_hosts_pids_dies_with_its_container(shim: Shim) -> None:
    kinds = ("mount", "ipc", "uts", "network")
    shim.linux["namespaces"] = [{"type": kind} for kind in kinds]
    event = shim.run_to_end("shared", "sh", "-c", "sleep 1000 & sleep 1000 & exit 2")
    assert event["status"] == 2
    assert shim.cgroups() == []


@pytest.mark.parametrize(
    ("command", "kind"),
    [("no-such-program", "command_not_found"), ("/bin/data", "command_not_executable")],
)
def test_start_of_what_cannot_run_says_which_and_leaves_nothing(
    shim: Shim, command: str, kind: str
) -> None:
    with pytest.raises(FailedError) as caught:
        shim.start("bad", command)
    assert caught.value.kind == kind
    assert shim.request(op="list") == []
    assert list((shim.run / "running").iterdir()) == []
    assert list((shim.run / "exits").iterdir()) == []
    assert shim.cgroups() == []
    assert shim.run_to_end("bad", "true")["status"] == 0  # the name is free again


def test_exit_is_a_file_until_it_is_forgotten(shim: Shim) -> None:
    shim.start("filed", "sh", "-c", "exit 7")
    shim.wait_exit("filed")
    file = shim.run / "exits" / "filed"
    assert json.loads(file.read_text())["status"] == 7
    assert [item["status"] for item in shim.request(op="list")] == [7]
    shim.request(op="forget", id="filed")
    assert not file.exists()
    assert shim.request(op="list") == []


def test_a_name_can_run_only_once_at_a_time(shim: Shim) -> None:
    shim.start("name", "sleep", "100")
    with pytest.raises(FailedError) as caught:
        shim.start("name", "true")
    assert caught.value.kind == "already_exists"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "a" * 200])
def test_ids_that_are_unsafe_in_a_path_are_refused(shim: Shim, name: str) -> None:
    with pytest.raises(FailedError) as caught:
        shim.request(op="forget", id=name)
    assert caught.value.kind == "invalid_argument"


def test_nonsense_gets_an_error_and_the_shim_lives(shim: Shim) -> None:
    for message in ({"op": "nothing"}, {}, {"op": "start", "id": "x"}, {"op": "signal", "id": 7}):
        assert "error" in shim.client.call({"op": "", **message})
    assert shim.request(op="list") == []


def test_exec_runs_in_the_container_and_has_its_own_exit(shim: Shim) -> None:
    shim.start("host", "sleep", "100")
    shim.execute("host", "e1", "sh", "-c", "exit 5")
    event = shim.wait_exit("host", "e1")
    assert event["status"] == 5
    assert (shim.run / "exits" / "host.e1").exists()
    shim.request(op="forget", id="host", exec_id="e1")
    assert not (shim.run / "exits" / "host.e1").exists()
    with pytest.raises(FailedError) as caught:
        shim.execute("host", "e2", "no-such-program")
    assert caught.value.kind == "command_not_found"


def test_exec_in_a_container_that_does_not_run_is_refused(shim: Shim) -> None:
    with pytest.raises(FailedError) as caught:
        shim.execute("nobody", "e1", "true")
    assert caught.value.kind == "not_running"


def test_end_of_a_container_ends_its_execs(shim: Shim) -> None:
    shim.start("host", "sleep", "100")
    shim.execute("host", "e1", "sleep", "100")
    shim.request(op="signal", id="host", signal=9)
    assert shim.wait_exit("host", "e1")["status"] == 137
    assert shim.wait_exit("host")["status"] == 137


def test_two_hundred_starts_leave_no_descriptor_process_or_cgroup(shim: Shim) -> None:
    shim.run_to_end("warm", "true")
    pids = (shim.pid, shim.stdio_pid)
    eventually(lambda: len(children(shim.pid)) == 2)  # the stdio process, and one in reserve
    before = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]
    for number in range(0, 200, 10):
        names = [f"many{number + i}" for i in range(10)]
        for name in names:
            shim.client.post(shim.start_message(name, "true"))
        exited: set[str] = set()
        while len(exited) < len(names):
            event = shim.client.wait_event()
            assert "error" not in event
            if event.get("event") == "exit":
                exited.add(event["id"])
        for name in names:
            shim.request(op="forget", id=name)
    for pid, count in zip(pids, before, strict=True):
        eventually(lambda pid=pid, count=count: len(os.listdir(f"/proc/{pid}/fd")) <= count)  # type: ignore[misc]
    assert shim.cgroups() == []
    assert list((shim.run / "running").iterdir()) == []
    eventually(lambda: len(children(shim.pid)) == 2)


def test_a_second_shim_for_one_folder_is_the_first(shim: Shim) -> None:
    pid = shim.pid
    shim.again()
    assert shim.pid == pid


def test_shutdown_is_refused_while_something_runs(shim: Shim) -> None:
    shim.start("busy", "sleep", "100")
    with pytest.raises(FailedError) as caught:
        shim.request(op="shutdown")
    assert caught.value.kind == "wrong_state"


@pytest.mark.slow
def test_shim_whose_folder_was_removed_ends_by_itself(shim: Shim) -> None:
    pids = [shim.pid, shim.stdio_pid]
    shim.client.close()
    shutil.rmtree(shim.run)
    eventually(lambda: all(state_of(pid) in ("", "Z") for pid in pids))


def test_exec_takes_no_reserve_where_another_container_may_trace_it(shim: Shim) -> None:
    def exec_by_reserve(number: int) -> bool:
        eventually(lambda: shim.request(op="counts")["pools"]["reserve_processes"][0] > 0)
        before = shim.request(op="counts")["pools"]["reserve_processes"]
        shim.execute("host", f"e{number}", "true")
        shim.wait_exit("host", f"e{number}")
        after = shim.request(op="counts")["pools"]["reserve_processes"]
        return bool(after[2] > before[2])

    pid = shim.start("host", "sleep", "100")["pid"]
    assert exec_by_reserve(1)
    shim.linux = {
        "namespaces": [
            {"type": "pid", "path": f"/proc/{pid}/ns/pid"},
            *({"type": kind} for kind in ("mount", "ipc", "uts", "network")),
        ]
    }
    shim.start("joins", "sleep", "100")
    assert not exec_by_reserve(2)
    shim.kill_shim()
    shim.again()
    shim.run_to_end("first", "true")  # a reserve is made once there is a start
    assert not exec_by_reserve(3)
