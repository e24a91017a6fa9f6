"""The embedded name server beside Docker's: queries per second, and how long one takes.

    python -m bench.dns [--seconds 2] [--rounds 3]

Everything runs in network and mount namespaces of its own, where dockerd may do what it
likes and the host's server is one on its loopback. A container asks 127.0.0.11 for the
address of another (`local`), and for a name that only the host's server knows
(`forwarded`): with one question under way at a time, and with 20.
"""

import argparse
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.measure import end_in_order, save
from orlop.kernel.loopback import raise_loopback
from orlop.kernel.namespaces import Namespace, setns, unshare
from orlop.network.dns.message import address_record, answer, read_query
from tests.integration import engines

SUBNET, GATEWAY = "10.213.{}.0/24", "10.213.{}.1"
HOSTS_SERVER = "127.0.0.53"
NAMES = {"local": "other", "forwarded": "world.example"}


class Load(NamedTuple):
    per_second: float
    median_us: float
    p99_us: float


def load(name: str, window: int, seconds: float) -> Load:
    """Ask for *name* in this thread's namespace, with *window* questions under way."""
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    rest = struct.pack("!5H", 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, 1, 1)
    asked = [0.0] * 65536
    times: list[float] = []
    with socket.socket(type=socket.SOCK_DGRAM) as asking:
        asking.settimeout(2)
        asking.connect(("127.0.0.11", 53))
        number = random.randrange(65536)

        def ask() -> None:
            nonlocal number
            number = (number + 1) & 0xFFFF
            asked[number] = time.perf_counter()
            asking.send(number.to_bytes(2, "big") + rest)

        for _ in range(window):
            ask()
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            got = asking.recv(600)
            now = time.perf_counter()
            if got[3] & 0xF or got[7] == 0:
                raise RuntimeError(f"no address of {name}: {got.hex()}")
            times.append(now - asked[int.from_bytes(got[:2], "big")])
            ask()
    times.sort()
    p99 = times[int(len(times) * 0.99)]
    return Load(len(times) / seconds, statistics.median(times) * 1e6, p99 * 1e6)


class Peer(NamedTuple):
    name: str
    docker: Callable[..., str]
    pid: int  # of the container that asks


def prepare(name: str, docker: Callable[..., str], archive: Path, number: int) -> Peer:
    """Have two containers on a network, and give what is asked from."""
    gateway = GATEWAY.format(number)
    docker("load", "-q", "-i", str(archive))
    subnet = ["--subnet", SUBNET.format(number), "--gateway", gateway]
    docker("network", "create", *subnet, "bench")
    for one in ("asker", "other"):
        start = ["run", "-d", "--network", "bench", "--name", one]
        docker(*start, "busybox:bench", "sleep", "1000")
    return Peer(name, docker, int(docker("inspect", "-f", "{{.State.Pid}}", "asker")))


@contextmanager
def orlop(folder: Path) -> Iterator[Callable[..., str]]:
    engine = engines.EngineProcess(folder)
    engine.start()
    try:
        yield engine.out
    finally:
        engine.close()


@contextmanager
def docker(folder: Path) -> Iterator[Callable[..., str]]:
    folder.mkdir()
    host = f"unix://{folder}/docker.sock"
    places = ["--data-root", f"{folder}/root", "--exec-root", f"{folder}/run"]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", *places, "--pidfile", f"{folder}/pid", "-H", host],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def call(*words: str) -> str:
        done = subprocess.run(
            ["docker", "-H", host, *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"docker {words}: {done.stderr}")
        return done.stdout.strip()

    try:
        deadline = time.monotonic() + 30
        while not Path(f"{folder}/docker.sock").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield call
    finally:
        with_containers = call("ps", "-aq").split()
        if with_containers:
            call("rm", "-f", *with_containers)
        daemon.terminate()
        daemon.wait(30)


def serve(address: str) -> None:
    """Answer whatever is asked at *address* with one address, for as long as this runs."""
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        record = address_record(bytes([192, 0, 2, 80]), 60)
        while True:
            message, asker = server.recvfrom(4096)
            server.sendto(answer(read_query(message), [record]), asker)


def measure(peer: Peer, what: str, window: int, seconds: float) -> Load:
    """Run load() in the container's network, in a process of its own."""
    words = ["--load", NAMES[what], "--window", str(window), "--seconds", str(seconds)]
    where = ["--inside", str(peer.pid)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.dns", *words, *where],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Load(*map(float, done.stdout.split()))


def compare(folder: Path, seconds: float, rounds: int) -> dict[str, dict[str, list[Load]]]:
    """Measure the engines in turn, and print a table; return every single value."""
    values = {}
    archive = engines.docker_archive(
        folder / "busybox.tar", tags=["busybox:bench"], config={"Env": ["PATH=/bin"]}
    )
    threading.Thread(target=serve, args=(HOSTS_SERVER,), daemon=True).start()
    with ExitStack() as stack:
        peers = []
        for number, engine in enumerate((orlop, docker)):
            call = stack.enter_context(engine(folder / engine.__name__))
            peers.append(prepare(engine.__name__, call, archive, number))
        for what in NAMES:
            for window in (1, 20):
                results: dict[str, list[Load]] = {peer.name: [] for peer in peers}
                for _ in range(rounds):
                    for peer in peers:
                        results[peer.name].append(measure(peer, what, window, seconds))
                values[title := f"{what}, {window} at a time"] = results
                _print(title, results)
    return values


def _print(title: str, results: dict[str, list[Load]]) -> None:
    print(title)
    for name, loads in results.items():
        rate, median, p99 = (statistics.median(values) for values in zip(*loads, strict=True))
        print(f"  {name:8} {rate:8.0f}/s   median {median:7.0f} us   p99 {p99:7.0f} us", flush=True)


def move_away(folder: Path) -> None:
    """Be on a host with nothing but a loopback, and a name server there."""
    resolv_conf = folder / "resolv.conf"
    resolv_conf.write_text(f"nameserver {HOSTS_SERVER}\n")
    unshare(Namespace.NET | Namespace.MOUNT)
    raise_loopback()
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", str(resolv_conf), "/etc/resolv.conf"], check=True)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.dns", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every single value there")
    parser.add_argument("--load", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--window", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--inside", type=int, metavar="PID", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.load:
        with open(f"/proc/{options.inside}/ns/net", "rb") as namespace:
            setns(namespace.fileno(), Namespace.NET)
        print(*load(options.load, options.window, options.seconds))
        return
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="orlop-bench-") as folder:
        move_away(Path(folder))
        save(options.json, compare(Path(folder), options.seconds, options.rounds))


if __name__ == "__main__":
    main(sys.argv[1:])
