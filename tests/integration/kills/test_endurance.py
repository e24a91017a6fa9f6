"""Hundreds of containers: descriptors and memory of engine, shim and pump stay as they are."""

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kills.remains import until
from tests.integration.kills.scene import Scene, answering

_SEQUENTIAL, _PARALLEL, _AT_A_TIME = 300, 100, 8
_WARM_UP = 60
_GROWTH_KIB = 3000  # what one allocator's arena more may be; a leak of 10 KiB each is as much


def _watched(scene: Scene) -> dict[str, int]:
    assert scene.engine.process is not None
    return {
        "engine": scene.engine.process.pid,
        "shim": answering(scene, "shim.sock"),
        "stdio": answering(scene, "stdio.sock"),
    }


def _resident_kib(pid: int) -> int:
    found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found.group(1))


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _descriptors_at_rest(pids: dict[str, int]) -> dict[str, int]:
    """Count them once what they keep ready is complete, and what has ended is closed."""
    found: list[dict[str, int]] = []

    def rests() -> bool:
        time.sleep(0.5)
        found.append({name: _descriptors(pid) for name, pid in pids.items()})
        return len(found) >= 4 and found[-4:] == [found[-1]] * 4

    until(rests, "descriptors that stay as they are", timeout_s=30)
    return found[-1]


def _run(scene: Scene) -> None:
    """As `run --rm host true` does: create, wait, start, and its removal."""
    body: dict[str, Any] = {"Image": "host", "Cmd": ["true"]}
    body["HostConfig"] = {"AutoRemove": True, "CgroupParent": f"/{scene.cgroup}"}
    ref = scene.docker.ok("POST", "/containers/create", body)["Id"]
    scene.docker.ok("POST", f"/containers/{ref}/start")
    until(lambda: not scene.state(ref), "the removal of a container", timeout_s=30)


def _one_by_one(scene: Scene) -> None:
    for _ in range(_SEQUENTIAL):
        _run(scene)


def _at_once(scene: Scene) -> None:
    failures: list[BaseException] = []

    def some() -> None:
        try:
            for _ in range(_PARALLEL // _AT_A_TIME + 1):
                _run(scene)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=some) for _ in range(_AT_A_TIME)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("work", [_one_by_one, _at_once], ids=["one by one", "eight at a time"])
def test_many_containers_leave_nothing_and_cost_nothing(
    scene: Scene, work: Callable[[Scene], None]
) -> None:
    for _ in range(_WARM_UP):
        _run(scene)
    scene.nothing_left("the warm-up")
    pids = _watched(scene)
    descriptors = _descriptors_at_rest(pids)
    memory = {name: _resident_kib(pid) for name, pid in pids.items()}
    work(scene)
    scene.nothing_left("many containers")
    assert _watched(scene) == pids
    after = _descriptors_at_rest(pids)
    assert all(after[name] <= descriptors[name] for name in pids), (descriptors, after)
    grown = {name: _resident_kib(pid) - memory[name] for name, pid in pids.items()}
    assert all(kib <= _GROWTH_KIB for kib in grown.values()), grown
