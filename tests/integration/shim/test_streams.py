"""Streams: attached clients, terminals, floods, logs."""

import contextlib
import os
import socket
import time

import pytest

from .harness import FailedError, Shim, eventually, payloads, read_all


def test_client_attached_before_the_start_misses_nothing(shim: Shim) -> None:
    with shim.attach("early", wait=True) as client:
        shim.start("early", "sh", "-c", "echo first; echo second >&2")
        assert payloads(read_all(client)) == {1: b"first\n", 2: b"second\n"}


def test_attach_to_what_does_not_run_is_refused(shim: Shim) -> None:
    with pytest.raises(FailedError) as caught:
        shim.attach("nobody")
    assert caught.value.kind == "not_found"


def test_clients_of_a_start_that_failed_are_sent_away_with_the_reason(shim: Shim) -> None:
    with shim.attach("sad", wait=True) as client, shim.stdio() as stdio:
        stdio.call({"op": "detach", "key": "sad", "message": "it failed\n"})
        assert payloads(read_all(client))[2] == b"it failed\n"


def test_input_reaches_the_process_and_its_end_too(shim: Shim) -> None:
    with shim.attach("cat", wait=True) as client:
        shim.start("cat", "cat", stdin=True, stdin_once=True)
        client.sendall(b"x" * 300_000)
        client.shutdown(socket.SHUT_WR)
        assert payloads(read_all(client))[1] == b"x" * 300_000
    assert shim.wait_exit("cat")["status"] == 0


def test_bytes_sent_before_the_hand_over_come_first(shim: Shim) -> None:
    with shim.attach("cat", wait=True, pending="aGVsbG8g") as client:
        shim.start("cat", "cat", stdin=True, stdin_once=True)
        client.sendall(b"world")
        client.shutdown(socket.SHUT_WR)
        assert payloads(read_all(client))[1] == b"hello world"


def test_stdin_stays_open_when_a_client_leaves_unless_it_is_for_once(shim: Shim) -> None:
    shim.start("stay", "cat", stdin=True)
    shim.attach("stay").close()
    with shim.attach("stay") as client:
        client.sendall(b"still here\n")
        eventually(lambda: shim.output("stay") == "still here\n")
    shim.request(op="close_stdin", id="stay")
    assert shim.wait_exit("stay")["status"] == 0


def test_detach_keys_let_the_client_go_and_the_container_run(shim: Shim) -> None:
    shim.start("shell", "cat", terminal=True, stdin=True)
    with shim.attach("shell") as client:
        client.sendall(b"a\x10b\n")  # ctrl-p alone is input
        eventually(lambda: "a^Pb" in shim.output("shell"))
        client.sendall(b"\x10")
        client.sendall(b"\x11")
        assert b"a^Pb" in read_all(client)
    assert [item["id"] for item in shim.request(op="list") if item.get("running")] == ["shell"]


def test_terminal_has_the_size_it_is_given(shim: Shim) -> None:
    shim.start("tty", "sh", terminal=True, stdin=True)
    shim.request(op="resize", id="tty", height=33, width=101)
    with shim.attach("tty") as client:
        client.sendall(b"stty size; exit\n")
        assert b"33 101" in read_all(client)
    assert shim.wait_exit("tty")["status"] == 0
    assert "33 101" in shim.output("tty")


def test_resize_without_a_terminal_is_refused(shim: Shim) -> None:
    shim.start("plain", "sleep", "100")
    with pytest.raises(FailedError) as caught:
        shim.request(op="resize", id="plain", height=1, width=1)
    assert caught.value.kind == "wrong_state"


def test_exec_output_goes_to_its_client_and_not_to_the_log(shim: Shim) -> None:
    shim.start("host", "sleep", "100")
    with shim.attach("host/e1", wait=True) as client:
        shim.execute("host", "e1", "sh", "-c", "echo probe")
        assert payloads(read_all(client))[1] == b"probe\n"
    assert shim.output("host") == ""


def test_child_that_outlives_its_exec_may_go_on_writing(shim: Shim) -> None:
    shim.start("host", "sleep", "100")
    script = "(while sleep 0.02; do echo tick; echo x >> /tmp/ticks; done) & exit 0"
    shim.execute("host", "e1", "sh", "-c", script)
    shim.wait_exit("host", "e1")
    ticks = shim.bundle("host").parent / "root/tmp/ticks"
    seen = ticks.stat().st_size if ticks.exists() else 0
    eventually(lambda: ticks.exists() and ticks.stat().st_size > seen + 10)


def test_flood_is_complete_in_its_rotated_logs_and_others_start_meanwhile(shim: Shim) -> None:
    log = {"path": str(shim.log_path("flood")), "max_size": 64 << 20, "max_files": 9}
    lines = 1_000_000
    line = "0123456789" * 10
    shim.start("flood", "sh", "-c", f"yes {line} | head -n {lines}", log=log)
    for number in range(5):
        assert shim.run_to_end(f"small{number}", "true")["status"] == 0
    assert shim.wait_exit("flood")["status"] == 0
    files = [shim.log_path("flood"), *shim.log_path("flood").parent.glob("flood.log.*")]
    assert len(files) > 2
    assert all(file.stat().st_size <= 64 << 20 for file in files)
    assert (
        sum(file.read_bytes().count(b'{"log":"%s\\n"' % line.encode()) for file in files) == lines
    )


def test_client_that_reads_late_gets_what_it_was_sent_after_the_end(shim: Shim) -> None:
    with shim.attach("early", wait=True, stdin=False) as client:
        shim.start("early", "sh", "-c", f"yes {'0' * 99} | head -c 900000")
        shim.wait_exit("early")
        assert len(payloads(read_all(client))[1]) == 900_000


@pytest.mark.slow
def test_client_that_reads_nothing_stalls_only_its_own_container(shim: Shim) -> None:
    with shim.attach("flood", wait=True, stdin=False):
        shim.start("flood", "sh", "-c", f"yes {'0' * 99} | head -c 60000000")
        time.sleep(0.1)
        assert shim.run_to_end("other", "true")["status"] == 0
        shim.wait_exit("flood")  # after PATIENCE_S the client is dropped
    assert len(shim.output("flood")) == 60_000_000
    assert peak_kib(shim.stdio_pid) < 40 << 10


def test_log_of_a_full_disk_says_what_it_lost(shim: Shim) -> None:
    log = {"path": "/dev/full", "max_size": 0, "max_files": 1}
    assert shim.run_to_end("full", "sh", "-c", "seq 1000", log=log)["status"] == 0
    with contextlib.suppress(FailedError):
        shim.request(op="forget", id="full")


def test_clients_that_come_and_go_leave_no_descriptor(shim: Shim) -> None:
    shim.start("busy", "cat", stdin=True)
    with shim.stdio() as stdio:
        pid = stdio.call({"op": "hello"})["ok"]["pid"]
        count = len(os.listdir(f"/proc/{pid}/fd"))
        for number in range(200):
            shim.attach("busy").close()
            shim.attach(f"never{number}", wait=True).close()
        eventually(lambda: len(os.listdir(f"/proc/{pid}/fd")) == count)


def test_input_that_nobody_reads_costs_no_time_and_no_memory(shim: Shim) -> None:
    shim.start("deaf", "sleep", "100", stdin=True)
    shim.start("deaf-tty", "sleep", "100", stdin=True, terminal=True)
    pid = shim.stdio_pid
    with shim.attach("deaf") as pipe, shim.attach("deaf-tty") as terminal:
        for client in (pipe, terminal):
            client.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    client.send(b"x\n" * 5000)
        eventually(lambda: ticks_during(0.2, pid) == 0, timeout_s=5)


def peak_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return int(file.read().split("VmHWM:")[1].split()[0])


def ticks_during(seconds: float, pid: int) -> int:
    before = cpu_ticks(pid)
    time.sleep(seconds)
    return cpu_ticks(pid) - before


def cpu_ticks(pid: int) -> int:
    """Return the processor time that *pid* has used, in clock ticks. proc(5)."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
