"""A shim goes on as one of another build: the same process, with all that it holds."""

import contextlib
import json

import pytest

from orlop.shim import launch

from .harness import Shim, children, eventually, read_all


@pytest.fixture(autouse=True)
def _we_are_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "BUILD", "another")


def waiting(code: int) -> tuple[str, ...]:
    return ("sh", "-c", f"while ! [ -e /tmp/go{code} ]; do sleep 0.02; done; exit {code}")


def test_exit_statuses_are_the_true_ones_whenever_containers_end(shim: Shim) -> None:
    pid, codes = shim.pid, range(1, 9)
    for code in codes:
        shim.start(f"box{code}", *waiting(code))
    for code in codes:
        (shim.root / f"tmp/go{code}").touch()
        shim.again()
        assert shim.pid == pid
    for code in codes:
        path = shim.run / "exits" / f"box{code}"
        eventually(path.exists)
    eventually(lambda: len(shim.request(op="list")) == len(codes))
    told = {item["id"]: item["status"] for item in shim.request(op="list")}
    assert told == {f"box{code}": code for code in codes}
    eventually(lambda: shim.cgroups() == [])


def test_its_children_that_wait_for_orders_end(shim: Shim) -> None:
    shim.start("box", *waiting(3))
    eventually(lambda: shim.request(op="counts")["pools"]["reserve_processes"][0] > 0)
    holds = {item["pid"] for item in shim.request(op="list")} | {shim.stdio_pid}
    reserve = {*children(shim.pid)} - holds
    assert reserve
    shim.again()
    assert not reserve & {*children(shim.pid)}
    (shim.root / "tmp/go3").touch()
    assert shim.wait_exit("box")["status"] == 3


def test_terminal_and_attached_client_are_kept(shim: Shim) -> None:
    script = "read line; echo got $line"
    shim.start("box", "sh", "-c", script, terminal=True, stdin=True)
    stdio = shim.stdio_pid
    with contextlib.closing(shim.attach("box", multiplex=False)) as client:
        shim.again()
        assert shim.stdio_pid == stdio
        client.sendall(b"word\n")
        assert b"got word" in read_all(client)
    assert shim.wait_exit("box")["status"] == 0


def test_where_the_successor_fails_the_next_shim_adopts(
    shim: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim.start("box", *waiting(3))
    pid = shim.pid
    with monkeypatch.context() as broken:
        words, environment = launch._program(str(shim.run))
        words[4] = "import sys; sys.exit(1)"
        first = [(words, environment)]
        good = launch._program
        broken.setattr(launch, "_program", lambda run: first.pop() if first else good(run))
        shim.again()
    assert shim.pid != pid
    (shim.root / "tmp/go3").touch()
    eventually((shim.run / "exits" / "box").exists)
    assert json.loads((shim.run / "exits" / "box").read_text())["status"] in (3, 255)
