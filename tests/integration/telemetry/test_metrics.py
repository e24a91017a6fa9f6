"""GET /metrics, as Prometheus's parser reads it, beside what has been done."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

import orlop
from orlop.engine.engine import Engine
from orlop.engine.telemetry import loads
from tests.integration.engine.harness import shell, with_engine
from tests.integration.telemetry.conftest import IMAGE, Watched

Samples = dict[tuple[str, ...], float]


def fetch(port: int, path: str = "/metrics", **headers: str) -> tuple[str, str]:
    """Return the answer's kind and text."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def samples_of(port: int) -> Samples:
    kind, text = fetch(port)
    assert kind.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in plain(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def await_samples(port: int, is_so: Callable[[Samples], bool]) -> Samples:
    """Return the samples once they are so."""
    deadline = time.monotonic() + 60
    while not is_so(samples := samples_of(port)):
        assert time.monotonic() < deadline, samples
        time.sleep(0.05)
    return samples


def test_what_happens_is_counted_and_timed(watched: Watched, metrics_port: int) -> None:
    before = samples_of(metrics_port)

    def more(*key: str) -> float:
        return after.get(key, 0) - before.get(key, 0)

    watched.cli.out("run", "--rm", IMAGE, "true")
    assert watched.cli.run("run", "--rm", IMAGE, "false").returncode == 1
    assert watched.cli.run("run", "--rm", IMAGE, "no-such-command").returncode == 127
    name = watched.cli.out("run", "-d", IMAGE, "sleep", "60")
    watched.cli.out("exec", name, "true")
    after = samples_of(metrics_port)
    assert more("orlop_starts_total", "ok") == 3
    assert more("orlop_starts_total", "command_not_found") == 1
    assert more("orlop_exits_total", "ok") == 1
    assert more("orlop_exits_total", "failed") == 1
    for operation, number in (("create", 4), ("start", 3), ("exec", 1), ("remove", 3)):
        assert more("orlop_operation_seconds_count", operation) == number, operation
    assert more("orlop_start_step_seconds_count", "ask_shim") == 3
    total_s = more("orlop_operation_seconds_sum", "start")
    assert 0 < more("orlop_start_step_seconds_sum", "ask_shim") < total_s
    assert after["orlop_containers", "running"] == 1
    await_samples(metrics_port, lambda now: now.get(("orlop_processes", "running")) == 1)
    watched.cli.out("rm", "-f", name)
    after = await_samples(metrics_port, lambda now: now.get(("orlop_processes", "running")) == 0)
    assert after["orlop_containers", "running"] == 0
    assert more("orlop_exits_total", "signalled") == 1
    assert more("orlop_operation_seconds_count", "stop") == 1


def of_container(samples: Samples, name: str) -> dict[str, float]:
    """Return the figures of the container *name*."""
    return {
        key[0].removeprefix("orlop_container_"): value
        for key, value in samples.items()
        if key[0].startswith("orlop_container_") and key[1] == name
    }


def test_each_container_tells_what_it_uses_while_it_runs(
    watched: Watched, metrics_port: int
) -> None:
    burn = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; exec sleep 600"
    words = ("--name", "burner", "-m", "64m", IMAGE, "sh", "-c", burn)
    watched.cli.out("run", "-d", *words)
    watched.cli.out("run", "-d", "--name", "unlimited", "--network", "none", IMAGE, "sleep", "600")
    gateway = watched.cli.out("exec", "burner", "sh", "-c", "ip route | awk '/default/ {print $3}'")
    watched.cli.out("exec", "burner", "ping", "-c", "3", "-s", "1000", gateway)
    found = await_samples(metrics_port, lambda now: used(now) > 0.05)
    burner, unlimited = of_container(found, "burner"), of_container(found, "unlimited")
    assert burner["memory_limit_bytes"] == 64 << 20
    assert 0 < burner["memory_bytes"] < 64 << 20
    assert burner["processes"] == unlimited["processes"] == 1
    assert burner["network_transmit_bytes_total"] > 3000
    assert burner["network_receive_bytes_total"] > 3000
    assert unlimited.keys() == {"cpu_seconds_total", "memory_bytes", "processes"}
    with orlop.Sandbox(engine=watched.url, image=IMAGE) as box:
        names = {
            key[1] for key in samples_of(metrics_port) if key[0] == "orlop_container_processes"
        }
        assert names == {"burner", "unlimited"}, box
    watched.cli.out("rm", "-f", "burner", "unlimited")
    assert of_container(samples_of(metrics_port), "burner") == {}


def used(samples: Samples) -> float:
    return samples.get(("orlop_container_cpu_seconds_total", "burner"), 0)


def test_containers_beyond_the_bound_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loads, "MOST", 1)

    async def work(engine: Engine) -> None:
        for name in ("first", "second"):
            made = await engine.containers.create(shell("exec sleep 60"), name=name)
            await engine.containers.start(made.id)
        text = await engine.metrics()
        assert 'orlop_container_processes{container="first"} 1\n' in text
        assert 'container="second"' not in text
        assert "\norlop_containers_left_out 1\n" in text

    with_engine(tmp_path, work)


def test_steps_of_the_child_are_sampled(watched: Watched, metrics_port: int) -> None:
    key = ("orlop_start_step_seconds_count", "execve")
    starts = ("orlop_starts_total", "ok")
    before = samples_of(metrics_port)
    for _ in range(16):
        watched.cli.out("run", "--rm", IMAGE, "true")
    after = samples_of(metrics_port)
    assert after[starts] - before.get(starts, 0) == 16
    assert after[key] - before.get(key, 0) == 1


def test_pools_are_seen_to_be_filled(watched: Watched, metrics_port: int) -> None:
    watched.cli.out("run", "--rm", IMAGE, "true")
    pools = ("snapshots", "reserve_processes")
    await_samples(
        metrics_port,
        lambda now: all(now.get(("orlop_pool_ready", pool), 0) > 0 for pool in pools),
    )


def test_openmetrics_is_spoken_to_who_asks_for_it(watched: Watched, metrics_port: int) -> None:
    del watched
    kind, text = fetch(metrics_port, Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    families: Iterable[Metric] = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    assert "orlop_starts" in {family.name for family in families}


def test_the_port_has_nothing_but_metrics(watched: Watched, metrics_port: int) -> None:
    del watched
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(metrics_port, "/containers/json")
    with refused.value:
        assert refused.value.code == 404


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "127.0.0.1", "localhost:9464", "[::]:1"])
def test_an_address_that_others_reach_is_refused(tmp_path: Path, address: str) -> None:
    engine = Watched(tmp_path, ORLOP_METRICS=address)
    words = [sys.executable, "-P", "-m", "orlop.programs.engine"]
    try:
        done = subprocess.run(
            words, env=engine.environment(), capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 1
        last = done.stderr.decode().splitlines()[-1]
        assert last.startswith(f"orlop engine: metrics cannot be served at {address!r}")
    finally:
        engine.close()


def test_the_unix_socket_has_them_too(watched: Watched, metrics_port: int) -> None:
    del metrics_port
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(watched.socket))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, text = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert list(plain(text.decode()))
