"""What waits and what is made ahead for sandboxes, as the engine's metrics tell it."""

import os
import signal
import socket
import threading
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.engines import EngineProcess
from tests.integration.sandbox.direct.ways import Given, Once, direct, run
from tests.integration.sandbox.faces import ids, wait_until

Options = Callable[..., Given]
Samples = dict[tuple[str, str], float]
_AT_ONCE = 4 * (os.cpu_count() or 1)  # starts that the shim is asked for
_WAITING = 8
_POOLS = ("recycled_cgroups", "networks", "writable_layers", "launchers")


def samples_of(engine: EngineProcess) -> Samples:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(120)
        client.connect(str(engine.socket))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    text = answer.partition(b"\r\n\r\n")[2].decode()
    return {
        (sample.name, *sample.labels.values()): sample.value  # type: ignore[misc]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if len(sample.labels) == 1
    }


def test_starts_that_wait_for_a_turn_are_counted(engine: EngineProcess, given: Options) -> None:
    assert run(Once(given()), "true").exit_code == 0
    with engine.shim() as asked:
        shim = asked.call({"op": "hello"})["ok"]["pid"]
    failures, lengths = list[BaseException](), dict[str, float]()

    def start() -> None:
        try:
            with direct(given()):
                pass
        except BaseException as error:
            failures.append(error)

    def are_waiting(starts: int) -> bool:
        found = {
            name: value for (kind, name), value in samples_of(engine).items() if "queue" in kind
        }
        lengths.update(found)
        return found["starts"] == starts

    threads = [threading.Thread(target=start) for _ in range(_AT_ONCE + _WAITING)]
    os.kill(shim, signal.SIGSTOP)
    try:
        for thread in threads:
            thread.start()
        for _ in range(20):  # each takes as long as the engine is patient with the shim
            if are_waiting(_WAITING):
                break
        assert lengths["starts"] == _WAITING
        assert lengths["shim_requests"] >= _AT_ONCE
    finally:
        os.kill(shim, signal.SIGCONT)
        for thread in threads:
            thread.join()
    assert failures == []
    wait_until(lambda: are_waiting(0), "some wait yet")
    wait_until(lambda: not ids(engine), "sandboxes are left")


def test_pools_count_who_is_served(engine: EngineProcess, given: Options) -> None:
    options = Once(given())
    assert run(options, "true").exit_code == 0

    def are_ready() -> bool:
        samples = samples_of(engine)
        return all(samples["orlop_pool_ready", pool] > 0 for pool in _POOLS)

    wait_until(are_ready, "some pool stays empty")
    before = samples_of(engine)
    assert run(options, "true").exit_code == 0
    after = samples_of(engine)
    for pool in _POOLS:
        assert after["orlop_pool_hits_total", pool] == before["orlop_pool_hits_total", pool] + 1
        assert after["orlop_pool_misses_total", pool] == before["orlop_pool_misses_total", pool]
        assert 0 <= after["orlop_pool_ready", pool] <= after["orlop_pool_bound", pool]
