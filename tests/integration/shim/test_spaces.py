"""Namespaces of pods that the shim holds: who may die without taking them along."""

import os
import threading
from collections.abc import Iterator

import pytest

from orlop.runtime import spaces

from .harness import FailedError, Shim, eventually, kill_and_wait

KINDS = ("ipc", "uts", "network", "shm")


@pytest.fixture
def held(shim: Shim) -> Iterator[dict[str, int]]:
    """The identities of the namespaces of pod "one", by kind; only the shim has descriptors."""
    made: dict[str, int] = {}

    def make() -> None:
        spaces.enter_thread()
        made.update(spaces.make(spaces.Wanted(KINDS, hostname="one")))

    worker = threading.Thread(target=make)
    worker.start()
    worker.join()
    try:
        answer = shim.client.call({"op": "hold", "id": "one", "names": [*made]}, [*made.values()])
        assert "error" not in answer
        yield {kind: os.fstat(fd).st_ino for kind, fd in made.items()}
    finally:
        for fd in made.values():
            os.close(fd)
        shim.request(op="let_go", id="one")


def identities(shim: Shim) -> dict[str, int]:
    """Return what the shim holds for pod "one"."""
    answer = shim.client.call({"op": "take", "id": "one"})
    assert "error" not in answer
    try:
        return {
            kind: os.fstat(fd).st_ino
            for kind, fd in zip(answer["ok"]["names"], answer["fds"], strict=True)
        }
    finally:
        for fd in answer["fds"]:
            os.close(fd)


def test_what_is_held_is_given_out_until_it_is_let_go(shim: Shim, held: dict[str, int]) -> None:
    assert identities(shim) == held
    assert shim.request(op="held") == ["one"]
    for _ in range(2):
        shim.request(op="let_go", id="one")
    assert shim.request(op="held") == []
    with pytest.raises(FailedError) as refused:
        shim.request(op="take", id="one")
    assert refused.value.kind == "not_found"


def test_namespaces_outlive_the_shim(shim: Shim, held: dict[str, int]) -> None:
    shim.kill_shim()
    shim.again()
    assert shim.request(op="held") == ["one"]
    assert identities(shim) == held


def test_namespaces_outlive_the_stdio_process_and_then_the_shim(
    shim: Shim, held: dict[str, int]
) -> None:
    before = shim.stdio_pid
    kill_and_wait(before)
    eventually(lambda: _is_new(shim, before))
    shim.kill_shim()
    shim.again()
    assert identities(shim) == held


def test_a_shim_that_holds_a_pod_is_not_shut_down(shim: Shim, held: dict[str, int]) -> None:
    with pytest.raises(FailedError) as refused:
        shim.request(op="shutdown")
    assert refused.value.kind == "wrong_state"
    assert identities(shim) == held


def test_containers_of_a_pod_share_its_namespaces_and_shm(shim: Shim, held: dict[str, int]) -> None:
    names = [kind for kind in KINDS if kind != "shm"]
    for name, script in (
        ("writer", "echo from the writer > /dev/shm/note; cat /proc/sys/kernel/hostname"),
        ("reader", "cat /dev/shm/note; echo in >> /dev/shm/note"),
    ):
        message = shim.start_message(name, "sh", "-c", script)
        config = shim.bundle_config(name)
        config["mounts"].append({"destination": "/dev/shm", "type": "tmpfs", "source": "shm"})
        shim.write_config(name, config)
        answer = shim.client.call({"op": "take", "id": "one"})
        fds = dict(zip(answer["ok"]["names"], answer["fds"], strict=True))
        copy = _in_thread_of_its_own(lambda fds=fds: spaces.copy_shm(fds["shm"]))
        more = {"namespaces": names, "mounts": ["/dev/shm"]}
        started = shim.client.call({**message, **more}, [*(fds[kind] for kind in names), copy])
        assert "error" not in started, started
        for fd in (*fds.values(), copy):
            os.close(fd)
        assert shim.wait_exit(name)["status"] == 0
        shim.request(op="forget", id=name)
    assert shim.output("writer") == "one\n"
    assert shim.output("reader") == "from the writer\n"
    assert identities(shim) == held


def _in_thread_of_its_own(function: object) -> int:
    made: list[int] = []

    def work() -> None:
        spaces.enter_thread()
        made.append(function())  # type: ignore[operator]

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    return made[0]


def _is_new(shim: Shim, before: int) -> bool:
    try:
        return shim.stdio_pid not in (0, before)
    except Exception:
        return False
