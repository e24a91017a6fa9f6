"""The embedded name server beside Docker's: queries per second, and how long one takes.

A container asks 127.0.0.11 for the address of another (`local`), and for a name that only
its host's server knows (`forwarded`): with one question under way at a time, and with 20.
"""

import multiprocessing
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median
from typing import NamedTuple

from bench import sites
from bench.sites import Site
from orlop.benchmark.bench import Bench
from orlop.benchmark.driver import IDLE
from orlop.benchmark.figures import percentile
from orlop.benchmark.image import REFERENCE
from orlop.kernel.namespaces import Namespace, setns
from orlop.network.dns.message import address_record, answer, read_query
from tests.integration.vxlan.hosts import inside

NAMES = {"local": "other", "forwarded": "world.example"}


class Answers(NamedTuple):
    per_second: float
    p50_ms: float
    p99_ms: float


def measure(bench: Bench) -> None:
    """Ask for --set seconds, --rounds times each, in turns."""
    seconds = float(bench.settings["seconds"])
    forks = multiprocessing.get_context("fork")
    with (
        sites.side_by_side(bench, ["docker"]) as (hosts, _),
        ProcessPoolExecutor(1, forks) as asking,  # of its own, for who serves here is busy, too
    ):
        askers = {site.engine.name: prepare(site) for site in hosts}
        for what, name in NAMES.items():
            for window in (1, 20):
                actions: dict[str, Callable[[], Answers]] = {
                    engine: partial(_asked, asking, partial(ask, pid, name, window, seconds))
                    for engine, pid in askers.items()
                }
                add = partial(bench.add_medians, case=f"{what}, {window} at a time")
                bench.alternate(actions, bench.plan.rounds, add)


def _asked(asking: ProcessPoolExecutor, load: Callable[[], Answers]) -> Answers:
    return asking.submit(load).result()


def prepare(site: Site) -> int:
    """Have two containers on a network, and the host's name server; the pid of who asks."""
    with inside(site.pid):
        server = socket.socket(type=socket.SOCK_DGRAM)
        server.bind((sites.NAME_SERVER, 53))
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    site.call("network", "create", "bench")
    for one in ("asker", "other"):
        site.call("run", "-d", "--network", "bench", "--name", one, REFERENCE, *IDLE)
    return int(site.call("inspect", "-f", "{{.State.Pid}}", "asker"))


def serve(server: socket.socket) -> None:
    """Answer whatever is asked with one address, for as long as this runs."""
    record = address_record(bytes([192, 0, 2, 80]), 60)
    while True:
        message, asker = server.recvfrom(4096)
        server.sendto(answer(read_query(message), [record]), asker)


def ask(pid: int, name: str, window: int, seconds: float) -> Answers:
    """Ask for *name* in the namespace of *pid*, with *window* questions under way."""
    with open(f"/proc/{pid}/ns/net", "rb") as namespace:
        setns(namespace.fileno(), Namespace.NET)
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    rest = struct.pack("!5H", 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, 1, 1)
    asked = [0.0] * 65536
    times: list[float] = []
    with socket.socket(type=socket.SOCK_DGRAM) as asking:
        asking.settimeout(2)
        asking.connect(("127.0.0.11", 53))
        number = random.randrange(65536)

        def ask_next() -> None:
            nonlocal number
            number = (number + 1) & 0xFFFF
            asked[number] = time.perf_counter()
            asking.send(number.to_bytes(2, "big") + rest)

        for _ in range(window):
            ask_next()
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            got = asking.recv(600)
            now = time.perf_counter()
            if got[3] & 0xF or got[7] == 0:
                raise RuntimeError(f"no address of {name}: {got.hex()}")
            times.append(1000 * (now - asked[int.from_bytes(got[:2], "big")]))
            ask_next()
    return Answers(len(times) / seconds, median(times), percentile(times, 0.99))
