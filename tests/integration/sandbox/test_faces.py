"""What a sandbox is asked, and answers, whichever class is used."""

import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

import orlop
from orlop.client.address import settings
from orlop.client.client import Client
from orlop.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, WrongStateError
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import Face

#: Leaves its parent, its session, its streams and its environment behind.
RUNAWAY = "env -i setsid sh -c 'sleep 600 & exec sleep 600' </dev/null >/dev/null 2>&1 &"
#: Burns processor time where no wait of the command's counts it, then says so.
BURN = "import time\nwhile time.process_time() < 0.3: pass\nopen('/tmp/f', 'w')"
ORPHAN = f'(setsid python3 -c "{BURN}" &)'
BIG_BYTES = 64 << 20


def running(box: Face) -> str:
    return box.run(["ps", "-eo", "args"]).stdout.decode()


def test_command_has_output_errors_and_an_exit_code(box: Face) -> None:
    result = box.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert result[:6] == (3, b"out\n", b"err\n", False, False, False)


def test_python_runs(box: Face) -> None:
    assert box.run(["python3", "-c", "print(1)"], input=b"", timeout=30).stdout == b"1\n"


def test_environment_user_and_folder_are_the_commands(box: Face) -> None:
    how = {"environment": {"COLOUR": "red"}, "user": 65534, "workdir": "/tmp"}
    result = box.run(["sh", "-c", "echo $COLOUR $(id -u) $PWD"], **how)
    assert result.stdout == b"red 65534 /tmp\n"


def test_environment_and_limits_are_the_sandboxs(face: Callable[..., Face]) -> None:
    box = face(environment={"A": "b"}, workdir="/tmp", memory="64m")
    assert box.run(["sh", "-c", "echo $A $PWD"]).stdout == b"b /tmp\n"
    assert box.run(["python3", "-c", "x = bytearray(200 << 20)"]).exit_code == 137


def test_input_larger_than_every_buffer_comes_through(box: Face) -> None:
    data = os.urandom(3 << 20)
    assert box.run(["cat"], input=data).stdout == data


def test_command_that_reads_no_input_ends(box: Face) -> None:
    assert box.run(["true"], input=bytes(8 << 20)).exit_code == 0


def test_conversation(box: Face) -> None:
    assert box.talk(["cat"], [b"one\n", b"two\n"]) == [b"one\n", b"two\n"]


def test_output_streams(box: Face) -> None:
    pieces = list(box.pieces(["sh", "-c", "echo a; echo b >&2"]))
    assert sorted(pieces) == [("stderr", b"b\n"), ("stdout", b"a\n")]


@pytest.mark.parametrize("command", [["no-such-program"], ["/etc/passwd"]])
def test_command_that_cannot_be_run_says_why(box: Face, command: list[str]) -> None:
    result = box.run(command)
    assert result.exit_code in (126, 127)
    assert command[0].encode() in result.stderr


@pytest.mark.parametrize("command", ["ls", []])
def test_command_is_a_list_of_words(box: Face, command: list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match="list of words"):
        box.run(command)


def test_time_limit_ends_the_whole_tree_and_nobody_else(box: Face) -> None:
    box.run(["sh", "-c", "setsid sleep 700 >/dev/null 2>&1 &"])
    script = f"{RUNAWAY} echo begun; trap '' TERM; sleep 600"
    results = (box.run(["sh", "-c", script], timeout=limit_s) for limit_s in (1, 5, 25))
    result = next(one for one in results if one.stdout)  # a busy machine begins late
    assert (result.timed_out, result.exit_code, result.stdout) == (True, 137, b"begun\n")
    assert "sleep 600" not in running(box)
    assert "sleep 700" in running(box)


def test_command_within_its_time_limit_is_not_timed_out(box: Face) -> None:
    assert not box.run(["true"], timeout=60).timed_out


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_time_limit_is_above_zero(box: Face, timeout: float) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout"):
        box.run(["true"], timeout=timeout)


def test_output_beyond_the_limit_is_dropped(box: Face) -> None:
    result = box.run(["sh", "-c", "yes | head -c 9000000; echo e >&2"], output_limit=1000)
    assert result.stdout == b"y\n" * 500
    assert result[2:6] == (b"e\n", True, False, False)


def test_output_of_exactly_the_limit_is_whole(box: Face) -> None:
    assert box.run(["printf", "12345"], output_limit=5)[1:4] == (b"12345", b"", False)


def test_files_are_written_and_read(box: Face) -> None:
    box.files("write", "/tmp/tool", b"#!/bin/sh\necho made\n", mode=0o755)
    assert box.run(["/tmp/tool"]).stdout == b"made\n"
    box.run(["ln", "-s", "tool", "/tmp/link"])
    assert box.files("read", "/tmp/link") == b"#!/bin/sh\necho made\n"


def test_missing_file_and_folder_are_told_apart(box: Face) -> None:
    with pytest.raises(NotFoundError, match=r"^no file or folder /tmp/none in the sandbox$"):
        box.files("read", "/tmp/none")
    with pytest.raises(InvalidArgumentError, match="/tmp is no file"):
        box.files("read", "/tmp")
    with pytest.raises(InvalidArgumentError, match="begins with"):
        box.files("read", "tmp/none")


def test_big_files_pass_with_little_memory(box: Face, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("w+b") as file:
        file.truncate(BIG_BYTES)
        tracemalloc.start()
        try:
            box.files("write", "/tmp/big", file)
            box.files("get", "/tmp/big", tmp_path / "back")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (tmp_path / "back").stat().st_size == BIG_BYTES
    assert peak < 8 << 20
    box.run(["rm", "/tmp/big"])


def test_folders_go_in_and_come_out(box: Face, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_text("x")
    (source / "link").symlink_to("deep/file")
    box.files("put", source, "/tmp/work")
    assert box.run(["cat", "/tmp/work/link"]).stdout == b"x"
    box.files("get", "/tmp/work", tmp_path / "copy")
    assert (tmp_path / "copy" / "deep" / "file").read_text() == "x"
    assert (tmp_path / "copy" / "link").readlink() == Path("deep/file")
    with pytest.raises(AlreadyExistsError):
        box.files("get", "/tmp/work", tmp_path / "copy")


def test_copy_that_comes_out_writes_nowhere_else(box: Face, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    script = f"""
        mkdir -p /tmp/bad && cd /tmp/bad && ln -s {outside} a && ln -s /etc/passwd p
        echo x >f && chmod 4755 f && ln f hard && mkfifo pipe
    """
    assert box.run(["sh", "-ec", script]).exit_code == 0
    box.files("get", "/tmp/bad", tmp_path / "copy")
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["a", "f", "hard", "p"]
    assert (tmp_path / "copy" / "f").stat().st_mode & 0o7777 == 0o755


def test_paused_sandbox_runs_nothing_until_it_is_resumed(box: Face) -> None:
    box.do("pause")
    with pytest.raises(WrongStateError, match="paused"):
        box.run(["true"])
    box.do("resume")
    assert box.run(["true"]).exit_code == 0


def test_snapshot_is_an_image_for_others(
    face: Callable[..., Face], engine: EngineProcess, busybox_archive: Path
) -> None:
    engine.docker("load", "-i", str(busybox_archive))
    first = face(image="busybox:test")
    first.files("write", "/etc/prepared", b"yes")
    first.do("snapshot", "prepared:1")
    second = face(image="prepared:1")
    assert second.run(["cat", "/etc/prepared"]).stdout == b"yes"


def test_terminal_has_a_size_and_takes_every_key(box: Face) -> None:
    script = (
        "stty size; read x; stty size; stty raw -echo; echo ready; head -c 3 | od -An -tx1; exit 4"
    )
    keys = b"\x10\x11\x03"  # ctrl-p, ctrl-q, ctrl-c: of no meaning here but to the command
    steps = [(b"30 100", None), (b"30 100", b"typed\n"), (b"ready", keys)]
    shown, exit_code = box.type(["sh", "-c", script], steps)
    assert [word in shown for word in (b"typed", b"10 20", b"10 11 03")] == [True] * 3
    assert exit_code == 4


def test_usage_is_that_of_one_command_and_of_all_it_started(box: Face) -> None:
    result = box.run(["sh", "-c", f"mkfifo /tmp/f; {ORPHAN}; cat /tmp/f; rm /tmp/f"])
    assert result.usage.cpu_s >= 0.3
    result = box.run(["python3", "-c", "x = bytearray(100 << 20)"])
    assert 100 << 20 <= result.usage.peak_memory_bytes < 200 << 20
    assert box.run(["true"]).usage.cpu_s < 0.3
    in_all = box.do("usage")
    assert in_all.cpu_s >= 0.3
    assert in_all.peak_memory_bytes >= 100 << 20


def test_usage_begins_anew_with_each_sandbox(engine: EngineProcess) -> None:
    for burns in (True, False, True):
        with orlop.Sandbox(engine=engine.url) as box:
            if burns:
                box.run(["sh", "-c", f"mkfifo /tmp/f; {ORPHAN}; cat /tmp/f"])
            assert (box.usage().cpu_s >= 0.3) == burns


def test_statistics_begin_anew_with_each_sandbox(engine: EngineProcess) -> None:
    work = "bytearray(100 << 20)\nimport time\nwhile time.process_time() < 0.3: pass"
    for burns in (True, False):
        with orlop.Sandbox(engine=engine.url, cpus=1.5, memory="300m") as box:
            if burns:
                box.run(["python3", "-c", work])
            with Client(settings(host=engine.url)) as client:
                (told,) = client.containers.stats(box.id, stream=False, one_shot=True)
        cpu, memory = told["cpu_stats"], told["memory_stats"]
        assert (cpu["throttling_data"]["periods"] > 2) == burns
        assert (cpu["cpu_usage"]["total_usage"] > 300_000_000) == burns
        assert (memory["max_usage"] > 100 << 20) == burns
        assert not [name for name in memory["stats"] if "pgfault" in name]  # of all its users


def test_port_is_reached_at_its_address(face: Callable[..., Face]) -> None:
    box = face(network="bridge", ports=[80])
    server = "import socket; s = socket.create_server(('', 80)); s.accept()[0].sendall(b'hello')"
    with pytest.raises(NotFoundError, match="port 81"):
        box.do("address", 81)
    address = box.do("address", 80)
    answers: list[bytes] = []

    def ask() -> None:
        until_s = time.monotonic() + 60
        while not answers and time.monotonic() < until_s:
            with suppress(OSError), socket.create_connection(address, timeout=20) as client:
                answers.extend(filter(None, [client.recv(100)]))
            time.sleep(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    assert box.run(["python3", "-c", server], timeout=60).exit_code == 0
    asking.join()
    assert answers == [b"hello"]


def test_network_is_none_unless_asked_for(box: Face) -> None:
    assert box.run(["ls", "/sys/class/net"]).stdout == b"lo\n"


def test_read_only_sandbox_has_a_tmp(face: Callable[..., Face]) -> None:
    box = face(read_only=True)
    assert box.run(["touch", "/etc/x"]).exit_code == 1
    assert box.run(["touch", "/tmp/x"]).exit_code == 0


def test_commands_side_by_side_keep_their_output_apart(engine_box: orlop.Sandbox) -> None:
    results: dict[int, bytes] = {}

    def ask(number: int) -> None:
        results[number] = engine_box.run(["echo", str(number)]).stdout

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: b"%d\n" % number for number in range(8)}


@pytest.mark.parametrize(("asked", "sent"), [((), b"refused"), (("NET_RAW",), b"sent")])
def test_sandbox_sends_packets_of_its_own_making_only_where_asked_for(
    face: Callable[..., Face], asked: Sequence[str], sent: bytes
) -> None:
    box = face(cap_add=asked)
    for family, protocol in (("AF_INET", 1), ("AF_PACKET", 0)):
        code = (
            f"import socket\ntry: socket.socket(socket.{family}, socket.SOCK_RAW, {protocol})\n"
            "except PermissionError: print('refused', end='')\nelse: print('sent', end='')"
        )
        assert box.run(["python3", "-c", code]).stdout == sent
