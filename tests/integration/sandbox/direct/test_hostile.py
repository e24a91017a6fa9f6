"""Programs, images and clients that mean harm, on the quick way: they harm themselves alone."""

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from orlop.client.direct import Connection, connections
from orlop.errors import (
    CommandNotExecutableError,
    InvalidArgumentError,
    OrlopError,
    UnsupportedError,
)
from orlop.sandbox.processes.process import Process
from orlop.sandbox.way import Command
from orlop.sandbox.ways.direct import DirectWay, start_message
from tests import crafting
from tests.integration.engines import EngineProcess, processes_of
from tests.integration.sandbox.direct.conftest import load
from tests.integration.sandbox.direct.ways import HOST, Given, Once, direct, run, shell
from tests.integration.sandbox.faces import wait_until

Options = Callable[..., Given]
UNCONFINED = {"HostConfig": {"SecurityOpt": ["seccomp=unconfined"]}}
_KEYS = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
name, session = b"orlop-test", -3
if sys.argv[1] == "add":
    assert libc.syscall(248, b"user", name, b"secret", 6, session) > 0
print(libc.syscall(250, 10, session, b"user", name, 0) > 0)
"""


@contextmanager
def connected(options: Given) -> Iterator[Connection]:
    connection = connections(options.settings()).take()
    try:
        yield connection
    finally:
        connection.close()


def _opened(kind: str, folder: Path) -> int:
    path = folder / kind
    match kind:
        case "file":
            path.write_text("x")
            return os.open(path, os.O_RDWR)
        case "device":
            return os.open("/dev/zero", os.O_RDWR)
        case "folder":
            return os.open(folder, os.O_RDONLY)
        case "folder by path":
            return os.open("/", os.O_PATH)
        case "socket by path":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
            return os.open(path, os.O_PATH)
        case _:
            os.mkfifo(path)
            return os.open(path, os.O_PATH)


@pytest.mark.parametrize(
    "kind", ["file", "device", "folder", "folder by path", "socket by path", "fifo by path"]
)
def test_what_is_no_stream_is_not_handed_in(given: Options, tmp_path: Path, kind: str) -> None:
    options, opened = given(), _opened(kind, tmp_path)
    reader, writer = os.pipe()
    try:
        message = {**start_message(options), "args": ["true"]}
        for place in range(3):
            fds = [reader, writer, writer]
            fds[place] = opened
            with connected(options) as connection, pytest.raises(InvalidArgumentError):
                connection.request(message, fds)
        with direct(options) as box, connected(options) as connection:
            wanted = {"op": "exec", "id": box.id, "args": ["true"]}
            with pytest.raises(InvalidArgumentError):
                connection.request(wanted, [opened, writer, writer])
            assert run(box, "true").exit_code == 0
    finally:
        for fd in (opened, reader, writer):
            os.close(fd)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_request_has_three_descriptors_or_none(given: Options, count: int) -> None:
    options = given()
    fds = [fd for _ in range(4) for fd in os.pipe()]
    try:
        with connected(options) as connection, pytest.raises(InvalidArgumentError):
            connection.request({**start_message(options), "args": ["true"]}, fds[:count])
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("disk", [-1, 1 << 62])
def test_a_size_that_cannot_be_harms_nobody(given: Options, disk: int) -> None:
    options = given(pids=50)
    with connected(options) as connection, pytest.raises(OrlopError):
        connection.request({**start_message(options), "disk": disk})
    with direct(options) as box:
        assert run(box, "true").exit_code == 0


def test_links_of_an_image_lead_into_nothing_of_a_launchers(
    engine: EngineProcess, given: Options, tmp_path: Path
) -> None:
    def links(tar: Any) -> None:
        for number in range(3, 60):
            crafting.add(tar, f"fd{number}", b"2", linkname=f"/proc/self/fd/{number}")

    (tmp_path / "host").mkdir()
    load(engine, tmp_path / "links.tar", "links:test", crafting.layer(links))
    for number in range(8, 40):  # each recipe has others there; all have the same host folder
        options = given(
            image="links:test",
            mounts=[f"{tmp_path}/host:/inside"],
            workdir=f"/fd{number}/escaped",
            more={"HostConfig": {"Tmpfs": {f"/fd{number + 1}/escaped": ""}} if number % 4 else {}},
        )
        with connected(options) as connection, pytest.raises(OrlopError):
            connection.request(start_message(options))
    assert os.listdir(tmp_path / "host") == []
    layers = [path for path in engine.root.rglob("escaped") if "snapshots" in path.parts]
    assert layers == []
    with direct(given(image="links:test")) as box:
        assert run(box, "test", "-e", "/escaped").exit_code == 1


@pytest.mark.parametrize("folder", ["etc", "dev", "proc", "sys"])
@pytest.mark.parametrize("target", ["/proc/self/fd/12", "/proc/self/cwd", "/tmp", "/nowhere"])
def test_linked_folders_are_left_to_the_usual_way(
    engine: EngineProcess, given: Options, tmp_path: Path, folder: str, target: str
) -> None:
    def link(tar: Any) -> None:
        crafting.add(tar, "bin", b"5")
        crafting.add(tar, "bin/busybox", data=crafting.BUSYBOX.read_bytes(), mode=0o755)
        crafting.add(tar, "bin/sh", b"2", linkname="busybox")
        crafting.add(tar, folder, b"2", linkname=target)

    name = f"linked-{folder}{target.replace('/', '-')}:test"
    crafting.docker_archive(tmp_path / "linked.tar", name, [crafting.layer(link)], {})
    engine.docker("load", "-i", str(tmp_path / "linked.tar"))
    options = given(image=name)
    with connected(options) as connection, pytest.raises(UnsupportedError):
        connection.request(start_message(options))


def test_no_program_is_the_launchers_own(given: Options) -> None:
    options = given(mounts=HOST)
    with direct(options) as box:
        shell(box, "ln -s /proc/self/exe /tmp/link; ln -s /proc/self/fd /tmp/fds")
        for program in ("/proc/self/exe", "/tmp/link", "/tmp/fds/1"):
            assert run(box, program, "-c", "print('a Python of the host')").exit_code == 126
    with pytest.raises(CommandNotExecutableError) as refused:
        run(Once(options), "/proc/self/exe", "-c", "print(1)")
    assert refused.value.exit_code == 126


def test_what_a_script_can_make_of_the_launchers_own_is_written_by_nobody(given: Options) -> None:
    with direct(given(mounts=HOST)) as box:
        text = """#!/proc/self/exe
import os
held = os.open("/proc/self/exe", os.O_RDONLY)
os.set_inheritable(held, True)
os.execv("/bin/sh", ["sh", "-c", f"echo x > /proc/self/fd/{held}"])
"""
        shell(
            box,
            'printf %s "$0" > /tmp/script; chmod +x /tmp/script'.replace("$0", "$TEXT"),
            environment={"TEXT": text},
        )
        done = run(box, "/tmp/script")
        assert done.exit_code == 1, done
        assert b"can't create" in done.stderr or b"not permitted" in done.stderr, done


def test_long_commands_get_there_or_are_refused_alone(given: Options) -> None:
    options = given()
    with direct(options) as box:
        script = 'for word in "$@"; do echo ${#word}; done'
        for count in (1, 4, 9):
            assert lengths(box, script, ["x" * 100_000] * count) == ["100000"] * count
        assert run(box, "true", *["x" * 100_000] * 30).exit_code == 126
        failures: list[object] = []
        threads = [threading.Thread(target=_echo, args=(box, n, failures)) for n in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            assert run(box, "sh", "-c", "true", "x" * 200_000).exit_code == 126
            assert run(box, "true", *["é" * 60_000] * 2).exit_code == 0
        for thread in threads:
            thread.join()
        assert failures == []


def lengths(box: Any, script: str, words: list[str]) -> list[str]:
    done = run(box, "sh", "-c", script, "sh", *words)
    assert done.exit_code == 0
    return done.stdout.decode().split()


def _echo(box: Any, number: int, failures: list[object]) -> None:
    for turn in range(20):
        done = run(box, "echo", f"{number}-{turn}")
        if done.stdout.decode() != f"{number}-{turn}\n":
            failures.append(done)


def test_a_paused_sandbox_leaves_its_cgroup_running(given: Options) -> None:
    options = given(pids=51)
    for _ in range(3):
        with direct(options) as box:
            assert run(box, "true").exit_code == 0
            box.pause()
    with direct(options) as box:
        assert run(box, "true").exit_code == 0


def test_keys_are_a_sandboxs_own(given: Options) -> None:
    options = given(mounts=HOST, more=UNCONFINED)
    python = ("/usr/bin/python3", "-c", _KEYS)
    with direct(options) as one, direct(options) as other:
        assert run(one, *python, "add").stdout == b"True\n"
        assert run(other, *python, "look").stdout == b"False\n"


@pytest.mark.parametrize(
    "more",
    [
        {"HostConfig": {"SecurityOpt": ["systempaths=unconfined"]}},
        {"HostConfig": {"CapAdd": ["SYS_ADMIN"], "SecurityOpt": ["seccomp=unconfined"]}},
        {"HostConfig": {"CapAdd": ["NET_ADMIN"]}},
    ],
    ids=["systempaths", "sys-admin", "net-admin"],
)
def test_a_network_that_was_changed_is_not_used_again(given: Options, more: Any) -> None:
    options = given(pids=52, more=more)
    change = """
        mount -o remount,rw /proc/sys 2>/dev/null
        echo 77 > /proc/sys/net/ipv4/ip_default_ttl
        busybox ip link set lo down  # by a socket, which is gone a moment later
        sleep 0.1
    """
    for _ in range(4):
        with direct(options) as box:
            assert shell(box, "cat /proc/sys/net/ipv4/ip_default_ttl") == "64\n"
            assert shell(box, "cat /sys/class/net/lo/flags") == "0x9\n"
            run(box, "sh", "-c", change)


def test_a_socket_that_outlives_a_sandbox_keeps_its_network(given: Options) -> None:
    options = given(pids=53, mounts=HOST)
    send = (
        "import socket, array; s = socket.socket(fileno=0); t = socket.socket();"
        "t.bind(('127.0.0.1', 4321)); t.listen();"
        "right = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [t.fileno()]));"
        "s.sendmsg([b'x'], [right])"
    )
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    try:
        message = {**start_message(options), "args": ["/usr/bin/python3", "-c", send]}
        with connected(options) as connection:
            made = connection.request(message, [theirs.fileno(), writer, writer])["id"]
            assert connection.exit_of(made)["status"] == 0
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        with socket.socket(fileno=fds[0]):
            for _ in range(3):
                with direct(options) as box:
                    bound = "import socket; socket.socket().bind(('127.0.0.1', 4321))"
                    assert run(box, "/usr/bin/python3", "-c", bound).exit_code == 0
    finally:
        ours.close()
        theirs.close()
        os.close(reader)
        os.close(writer)


def test_users_are_each_sandboxs_own(given: Options) -> None:
    options = given()
    with direct(options) as plain, direct(options) as changed:
        assert run(plain, "id", "-u", user="user").stdout == b"1000\n"
        shell(changed, "printf 'root:x:0:0::/:\\nuser:x:7:7::/:\\nnew:x:8:8::/:\\n' > /etc/passwd")
        assert run(changed, "id", "-u", user="user").stdout == b"7\n"
        assert run(changed, "id", "-u", user="new").stdout == b"8\n"
        assert run(plain, "id", "-u", user="user").stdout == b"1000\n"
        refused = run(plain, "id", "-u", user="new")
        assert refused.exit_code == 126
        shell(changed, "rm -r /etc; mkdir /etc 2>/dev/null; true")
        assert run(plain, "id", "-u", user="user").stdout == b"1000\n"
        shell(
            plain,
            "busybox mkfifo /tmp/f; rm /etc/passwd; busybox mv /tmp/f /etc/passwd",
        )
        assert run(plain, "id", "-u", user="user").exit_code == 126


def test_more_mounts_than_fit_a_message_are_the_usual_ways(given: Options, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    options = given(mounts=[f"{tmp_path}/file:/mounted/{n}" for n in range(260)])
    box = DirectWay(options.settings()).start(options)
    try:
        assert shell(box, "ls /mounted | wc -l") == "260\n"
    finally:
        box.close()
    assert stat.S_ISREG((tmp_path / "file").stat().st_mode)


def test_who_dies_of_its_memory_in_its_start_takes_nobody_along(given: Options) -> None:
    """Files are in memory; with no room left the kernel kills who comes, and his launcher."""
    full, ended = given(memory="6m", pids=54), threading.Event()
    deaths: list[object] = []  # on the way to a program, or soon after

    def die(box: Any) -> None:
        _try(box, "sh", "-c", "head -c 400000000 /dev/zero > /tmp/much")
        while not ended.wait(0.005):
            try:
                if (done := run(box, "true")).exit_code:
                    deaths.append(done)
            except OrlopError as error:
                deaths.append(error)

    with ExitStack() as boxes:
        dying = []
        for _ in range(3):
            box = boxes.enter_context(direct(full))
            dying.append(threading.Thread(target=die, args=(box,), daemon=True))
            dying[-1].start()
        try:
            for turn in range(100):
                assert run(Once(given()), "echo", f"{turn}").stdout == b"%d\n" % turn
            wait_until(lambda: bool(deaths), "memory is never used up")
        finally:
            ended.set()
    for thread in dying:
        thread.join(60)
        assert not thread.is_alive(), "a command in a sandbox that is closed has no end"


def test_who_stops_its_own_later_processes_stops_nobody_elses(given: Options) -> None:
    options = given()
    stop = Command(words=["sh", "-c", "echo go; while :; do kill -STOP -1; done"])
    with direct(options) as other, direct(options) as hostile:
        stopping = Process(hostile, stop)
        next(iter(stopping))
        threads = [threading.Thread(target=_try, args=(hostile, "true")) for _ in range(8)]
        for thread in threads:
            thread.start()
        for turn in range(40):
            assert run(other, "echo", f"{turn}").stdout == b"%d\n" % turn
        hostile.close()
        stopping.close()
        for thread in threads:
            thread.join()
        assert run(other, "true").exit_code == 0


def _try(box: Any, *words: str) -> None:
    with suppress(OrlopError):
        run(box, *words)


def test_what_a_command_leaves_behind_ends_with_its_sandbox(
    engine: EngineProcess, given: Options
) -> None:
    options = given(pids=55)
    for _ in range(3):
        with direct(options) as box:
            for _ in range(3):
                left = "(busybox setsid sleep 1000 &) ; sleep 1000 & echo left"
                assert shell(box, left) == "left\n"
            running = box.exec(Command(words=["sleep", "1000"]))
            running.close()
    wait_until(lambda: not _groups(engine, "exec-*"), "groups of commands are left")


def _groups(engine: EngineProcess, pattern: str) -> list[Path]:
    folder = Path("/sys/fs/cgroup")
    return [
        place
        for pid in processes_of(engine.run)
        for place in folder.glob(f"*/orlop/.pool-{pid}-*/{pattern}")
    ]


def test_limits_that_were_changed_are_nobody_elses(engine: EngineProcess, given: Options) -> None:
    options = given(pids=56, memory="64m")
    for _ in range(3):
        with direct(options) as box:
            assert shell(box, "cat /sys/fs/cgroup/pids/pids.max") == "56\n"
            assert shell(box, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes") == "67108864\n"
            engine.docker("update", "--pids-limit", "99", "--memory", "128m", box.id)
            assert shell(box, "cat /sys/fs/cgroup/pids/pids.max") == "99\n"


def test_what_was_used_is_counted_for_who_has_used_it(given: Options) -> None:
    options = given(pids=57)
    used = "/sys/fs/cgroup/cpuacct/cpuacct.usage"
    for _ in range(2):
        with direct(options) as box:
            assert int(shell(box, f"cat {used}")) < 200_000_000
            burn = f"while [ $(cat {used}) -lt 300000000 ]; do :; done"
            assert run(box, "sh", "-c", burn).exit_code == 0


def test_a_sandbox_is_connected_to_no_network_that_others_get(
    engine: EngineProcess, given: Options
) -> None:
    options = given(pids=58)
    with direct(options) as box:
        engine.docker("network", "connect", "bridge", box.id, check=False)
    for _ in range(3):
        with direct(options) as box:
            assert shell(box, "ls /sys/class/net") == "lo\n"


def test_a_crowd_of_processes_is_held_and_ends(given: Options) -> None:
    options = given(pids=20)
    bomb = "f() { f | f & }; f; sleep 1000"
    with direct(options) as hostile, direct(options) as other:
        process = hostile.exec(Command(words=["sh", "-c", bomb]))
        for _ in range(20):
            assert run(other, "true").exit_code == 0
        process.kill()
        process.close()
    with direct(options) as box:
        assert run(box, "sh", "-c", "true & wait").exit_code == 0
