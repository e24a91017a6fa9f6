"""`orlop bench` with an engine of its own, and peers that need no daemon."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.integration.engines import processes_of

ORLOP = Path(sys.executable).with_name("orlop")
PATIENCE_S = 300
WAYS = {
    f"{way}{network}"
    for way in ("orlop", "orlop Sandbox", "orlop run")
    for network in ("", ", bridge")
}


def bench(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start it, with its state in *folder* and its words in files there."""
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        return subprocess.Popen(
            [ORLOP, "bench", "--folder", folder, *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
            cwd=folder,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        )


def ended(process: subprocess.Popen[str]) -> int:
    try:
        return process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()


def leftovers(folder: Path) -> Iterator[str]:
    """Yield what names a run's folders: processes, mounts, the folders themselves."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in command and b"pytest" not in command:
                yield f"process {command!r}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if f" {folder}/" in line:
            yield f"mount {line}"
    yield from (str(path) for path in folder.glob("orlop-bench-*"))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a run's state is; what it has left there is ended, and fails the test."""
    yield tmp_path
    left = list(leftovers(tmp_path))
    for run in tmp_path.glob("orlop-bench-*/orlop/root"):
        for pid in processes_of(run):
            os.kill(pid, signal.SIGKILL)
    assert left == []


def rows_of(results: dict[str, Any], part: str) -> dict[str, list[dict[str, float]]]:
    """Return figures by driver."""
    found: dict[str, list[dict[str, float]]] = {}
    for row in results["rows"]:
        if row["part"] == part:
            found.setdefault(row["driver"], []).append(row["figures"])
    return found


def test_each_part_has_figures_of_orlop_and_of_its_peers(folder: Path) -> None:
    options = ["--only", "warm,concurrency,exec,pool,fork,density,soak", "--peers", "runc,floor"]
    counts = ["--starts=2", "--rounds=1", "--clients=3", "--wave=4", "--limit=2", "--live=3"]
    outputs = ["--peer-density=1", "--soak=10", "-ofound.json", "-ofound.md", "--plots=plots"]
    process = bench(folder, *options, *counts, *outputs)
    assert ended(process) == 0, (folder / "err").read_text()

    results = json.loads((folder / "found.json").read_text())
    assert results["machine"]["cpus"] == os.cpu_count()
    assert not [line for line in results["left_out"] if line.startswith("runc: 1 starts failed")]

    peers = {"runc", "floor"} if shutil.which("cc") else {"runc"}
    warm = rows_of(results, "warm")
    assert set(warm) == WAYS | peers
    for (figures,) in warm.values():
        assert figures["starts"] == 2
        assert 0 < figures["first_p50_ms"] < figures["total_p50_ms"]

    many = rows_of(results, "concurrency")
    assert {name: [row["starts"] for row in rows] for name, rows in many.items()} == {
        **{name: [4] for name in WAYS},
        **{name: [2] for name in peers},
    }
    assert all(row["per_second"] > 0 for rows in many.values() for row in rows)

    sandboxes = {name for name in WAYS if "Sandbox" in name}
    runs = {name for name in WAYS if "run" in name}
    assert set(rows_of(results, "exec")) == sandboxes | runs | {"runc"}
    assert set(rows_of(results, "pool")) == set(rows_of(results, "fork")) == sandboxes

    *levels, removal = rows_of(results, "density")["orlop"]
    assert ["pss_each_kb" in level for level in levels] == [False, True, True]
    assert all(level["engine_pss_mb"] > 1 for level in levels)
    assert removal["removal_s"] > 0

    for (figures,) in rows_of(results, "soak").values():
        assert figures["starts"] == 40
        assert figures["left_processes"] < 10  # of 40; a reserve may have been away before

    assert "| orlop, bridge |" in (folder / "found.md").read_text()
    drawn = {path.name for path in (folder / "plots").iterdir()}
    plots = {"latency", "tail", "rate", "cpu", "memory", "density"}
    assert drawn == {f"bench-{plot}.{form}" for plot in plots for form in ("svg", "png")}
    assert "orlop, bridge" in "".join(
        ET.parse(folder / "plots/bench-rate.svg").getroot().itertext()
    )


def test_a_hostile_neighbour_is_started_with_limits_and_goes(folder: Path) -> None:
    process = bench(folder, "--only=neighbours", "--starts=1", "--peers=none", "-ofound.json")
    assert ended(process) == 0, (folder / "err").read_text()
    results = json.loads((folder / "found.json").read_text())
    kinds = [row["case"] for row in results["rows"]]
    assert kinds == ["fork bomb", "memory hog", "log flood", "ignores SIGTERM", "disk filler"]
    assert all(row["figures"]["ratio"] > 0 for row in results["rows"])
    assert results["left_out"] == [line for line in results["left_out"] if "neighbours" not in line]


def test_an_interrupted_run_prints_what_it_has_and_leaves_nothing(folder: Path) -> None:
    process = bench(folder, "--only=warm,soak", "--starts=1", "--soak=900000", "--peers=none")
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "soak" not in (folder / "err").read_text() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
    finally:
        code = ended(process)
    said = (folder / "out").read_text()
    assert code == 130, (folder / "err").read_text()
    assert "One start after the other" in said
    assert "interrupted" in said
