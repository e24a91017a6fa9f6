"""The engine is killed: sandboxes keep what they have of networks, and nothing else stays."""

import contextlib
import json
import os
import signal
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orlop.errors import OrlopError
from tests.integration.engines import EngineProcess
from tests.integration.networks.scenes import can_bind
from tests.integration.sandbox.networks.quick import (
    WHO_AM_I,
    Quick,
    ask,
    is_there,
    wait_until,
)

STRIKES = 6


def addresses(engine: EngineProcess, container: str) -> list[str]:
    told = engine.out("inspect", "--format", "{{json .NetworkSettings.Networks}}", container)
    return [network["IPAddress"] for network in json.loads(told).values()]


def test_what_runs_stays_on_its_networks_and_what_waited_goes(
    engine: EngineProcess, quick: Quick
) -> None:
    engine.docker("network", "create", "--subnet", "10.9.0.0/16", "front")
    plain = quick.serve()
    named = quick.serve(network="front", Hostname="web")
    ports = {"PortBindings": {"7000/tcp": [{"HostPort": "17000"}]}}
    published = quick.serve(HostConfig=ports)
    idle = quick.run(*WHO_AM_I)
    there = [*addresses(engine, plain.id), *addresses(engine, named.id)]
    engine.stop(signal.SIGKILL)
    wait_until(lambda: not is_there(idle))
    assert [ask(one).split()[0].rpartition(".")[2] for one in there] == ["1", "1"]
    engine.start()
    assert [*addresses(engine, plain.id), *addresses(engine, named.id)] == there
    assert "refused" not in ask("127.0.0.1", 17000).split()[0]
    with Quick(engine.url) as again:
        fresh = again.run("sh", "-c", "getent hosts $(hostname); getent hosts web", network="front")
        assert fresh.split()[0] not in there
        assert fresh.splitlines()[-1].split()[0] == there[1]
        assert again.run("sh", "-c", "getent hosts $(hostname)").split()[0] not in there
    engine.docker("rm", "-f", plain.id, named.id, published.id)
    wait_until(lambda: can_bind(17000))
    engine.docker("run", "--rm", "--network", "front", "--ip", there[1], "host", "true")


def test_killed_amid_starts_and_ends_nothing_is_left(engine: EngineProcess) -> None:
    engine.docker("network", "create", "--subnet", "10.9.0.0/16", "front")
    ports = {"PortBindings": {"7000/tcp": [{"HostPort": "0"}]}}
    choices: list[dict[str, Any]] = [{}, {"network": "front"}, {"HostConfig": ports}]
    over = threading.Event()
    ran: list[str] = []

    def start_and_end(more: dict[str, Any]) -> None:
        while not over.is_set():
            with contextlib.suppress(OrlopError, AssertionError), Quick(engine.url) as quick:
                quick.run("true", **more)
                ran.append(quick.start("sleep", "600", **more).id)
                over.wait(0.005)

    with ThreadPoolExecutor(len(choices)) as threads:
        working = [threads.submit(start_and_end, more) for more in choices]
        try:
            for strike in range(STRIKES):
                wait_for_more(ran)
                if strike % 2:  # the engine, or what runs all
                    engine.stop(signal.SIGKILL)
                    engine.start()
                else:
                    kill_shim(engine)
        finally:
            over.set()
    for one in working:
        one.result()
    with Quick(engine.url) as quick:
        wait_until(lambda: bool(told(quick)))
        boxes = engine.out("ps", "-aq", "--no-trunc").split()
        if boxes:  # of clients whose engine was killed: they live on, and so do we
            engine.docker("rm", "-f", *boxes, check=False)
        wait_until(lambda: not engine.out("ps", "-aq"))
        chosen = {"EndpointsConfig": {"front": {"IPAMConfig": {"IPv4Address": "10.9.0.2"}}}}
        quick.run("true", network="front", NetworkingConfig=chosen)


def wait_for_more(ran: list[str]) -> None:
    before = len(ran)
    wait_until(lambda: len(ran) > before + STRIKES)


def kill_shim(engine: EngineProcess) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
        one.connect(str(engine.run / "shim.sock"))
        credentials = one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        os.kill(struct.unpack("3i", credentials)[0], signal.SIGKILL)


def told(quick: Quick) -> str:
    try:
        return quick.run(*WHO_AM_I)
    except OrlopError:
        return ""
