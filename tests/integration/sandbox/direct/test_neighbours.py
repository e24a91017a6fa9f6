"""Sandboxes of the same recipe, beside and after each other, share nothing that they write."""

import threading
from collections.abc import Callable

from orlop.errors import OrlopError
from tests.integration.sandbox.direct.ways import HOST, Given, Once, direct, run, shell

Options = Callable[..., Given]
_PYTHON = "/usr/bin/python3"
#: Leaves something behind wherever a program can.
_LEAVE = """
echo mine > /tmp/mine; echo mine > /dev/shm/mine; echo mine > /root/mine; echo mine > /etc/mine
echo 6.6.6.6 name >> /etc/hosts; echo mine > /etc/hostname; rm /bin/yes; mkdir /mine
echo 'mine:x:5:5::/:' >> /etc/passwd; mknod /tmp/null c 1 3; chmod 700 /tmp
"""
_FIND = """
find / -xdev -name mine; find /dev/shm /tmp /dev/mqueue -mindepth 1
grep 6.6.6.6 /etc/hosts; grep mine /etc/passwd /etc/hostname; test -e /bin/yes || echo no yes
stat -c %a /tmp
"""
_SHARED_MEMORY = """
import ctypes, mmap, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
with socket.socket(socket.AF_UNIX) as name:
    name.bind("\\0name")
    if sys.argv[1] == "make":
        assert libc.shmget(4321, 4096, 0o1666) >= 0
        assert libc.msgget(4321, 0o1666) >= 0
        queue = ctypes.CDLL("librt.so.1").mq_open(b"/mine", os.O_CREAT | os.O_RDWR, 0o666, None)
        assert queue >= 0, os.strerror(ctypes.get_errno())
        print(os.listdir("/dev/mqueue"))
    else:
        print(libc.shmget(4321, 0, 0), libc.msgget(4321, 0), os.listdir("/dev/mqueue"))
"""


def test_what_one_leaves_the_next_and_the_neighbour_do_not_find(given: Options) -> None:
    options = given(pids=63)
    with direct(options) as fresh:
        expected = shell(fresh, f"{_FIND}\ntrue")
    assert expected.split() == ["755"]
    with direct(options) as neighbour:
        for _ in range(4):
            with direct(options) as box:
                assert shell(box, f"{_FIND}\ntrue") == expected
                shell(box, _LEAVE)
                assert shell(box, f"{_FIND}\ntrue") != expected
            assert shell(neighbour, f"{_FIND}\ntrue") == expected


def test_they_have_each_their_own_processes(given: Options) -> None:
    options = given()
    with direct(options) as one, direct(options) as other:
        held = shell(one, "sleep 1234 & echo $!").strip()
        assert "1234" in shell(one, "ps")
        assert "1234" not in shell(other, "ps")
        shell(other, "kill -9 -1; true")
        assert run(other, "kill", "-9", held).exit_code != 0
        assert "1234" in shell(one, "ps")
        names = {box.id[:12]: shell(box, "hostname; cat /etc/hostname") for box in (one, other)}
        assert all(said == f"{name}\n{name}\n" for name, said in names.items())


def test_they_have_each_their_own_shared_memory_queues_and_names(given: Options) -> None:
    options = given(mounts=HOST)
    with direct(options) as one, direct(options) as other:
        assert run(one, _PYTHON, "-c", _SHARED_MEMORY, "make").stdout == b"['mine']\n"
        assert run(other, _PYTHON, "-c", _SHARED_MEMORY, "find").stdout == b"-1 -1 []\n"
    with direct(options) as later:
        assert run(later, _PYTHON, "-c", _SHARED_MEMORY, "find").stdout == b"-1 -1 []\n"


def test_answers_and_outputs_are_nobody_elses(given: Options) -> None:
    options, failures = given(memory="64m"), []

    def turns(number: int) -> None:
        try:
            for turn in range(6):
                _speak(options, f"{number}-{turn}")
        except (AssertionError, OrlopError) as error:
            failures.append(error)

    threads = [threading.Thread(target=turns, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def _speak(options: Given, word: str) -> None:
    alone = run(Once(options), "sh", "-c", 'echo "$0"; echo "$0" >&2; exit 7', word)
    assert (alone.exit_code, alone.stdout, alone.stderr) == (7, *[f"{word}\n".encode()] * 2)
    with direct(options) as box:
        shell(box, f"echo {word} > /tmp/word")
        done = run(box, "sh", "-c", 'cat /tmp/word; echo "$W"', environment={"W": word})
        assert done.stdout == f"{word}\n{word}\n".encode()


def test_who_uses_up_its_memory_ends_alone(given: Options) -> None:
    options = given(mounts=HOST, memory="48m")
    eat = "x = bytearray(1 << 30)"
    with direct(options) as hungry, direct(options) as other:
        assert run(hungry, _PYTHON, "-c", eat).exit_code == 137
        assert run(other, "true").exit_code == 0
        assert run(hungry, "true").exit_code == 0
    assert run(Once(options), _PYTHON, "-c", eat).exit_code == 137
    with direct(options) as last:
        assert run(last, "true").exit_code == 0
