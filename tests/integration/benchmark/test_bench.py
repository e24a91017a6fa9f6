"""`orlop bench` with an engine of its own, and peers that need no daemon."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[3]
ORLOP = Path(sys.executable).with_name("orlop")
PATIENCE_S = 900
WAYS = {
    f"{way}{network}"
    for way in ("orlop", "orlop Sandbox", "orlop run")
    for network in ("", ", bridge")
}


class Place(NamedTuple):
    """Where a run's state, results and sockets go."""

    folder: Path
    run: Path

    def processes(self) -> list[int]:
        """Return those that name it."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    if os.fsencode(self.run) in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
        return found


def bench(place: Place, *options: str) -> subprocess.Popen[str]:
    """Start it; what it writes is in files of its folder."""
    folder = place.folder
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        return subprocess.Popen(
            [ORLOP, "bench", "--folder", folder, "--run-folder", place.run, *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},  # where the module bench is
        )


def ended(process: subprocess.Popen[str]) -> int:
    try:
        return process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """What is left there of a run is ended, and fails the test."""
    with tempfile.TemporaryDirectory(prefix="orlop-test-", dir="/run") as run:
        place = Place(tmp_path, Path(run))
        yield place
        left = place.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert left == []
        assert list(place.run.iterdir()) == []
    assert list(tmp_path.glob("orlop-bench-*")) == []
    assert f" {tmp_path}/" not in Path("/proc/self/mountinfo").read_text()


def rows_of(results: dict[str, Any], part: str) -> dict[str, list[dict[str, float]]]:
    """Return figures by driver."""
    found: dict[str, list[dict[str, float]]] = {}
    for row in results["rows"]:
        if row["part"] == part:
            found.setdefault(row["driver"], []).append(row["figures"])
    return found


def test_each_part_has_figures_of_orlop_and_of_its_peers(place: Place) -> None:
    folder = place.folder
    options = ["--only", "warm,concurrency,exec,pool,fork,density,soak", "--peers", "runc,floor"]
    counts = ["--starts=2", "--rounds=1", "--clients=3", "--wave=4", "--limit=2", "--live=3"]
    outputs = ["--peer-density=1", "--soak=10", "-ofound.json", "-ofound.md", "--plots=plots"]
    process = bench(place, *options, *counts, *outputs)
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

    check_sandboxes_that_stay(results, peers)

    assert "| orlop, bridge |" in (folder / "found.md").read_text()
    drawn = {path.name for path in (folder / "plots").iterdir()}
    plots = {"latency", "tail", "rate", "cpu", "memory", "density"}
    assert drawn == {f"bench-{plot}.{form}" for plot in plots for form in ("svg", "png")}
    assert "orlop, bridge" in "".join(
        ET.parse(folder / "plots/bench-rate.svg").getroot().itertext()
    )


def check_sandboxes_that_stay(results: dict[str, Any], peers: set[str]) -> None:
    sandboxes = {name for name in WAYS if "Sandbox" in name}
    runs = {name for name in WAYS if "run" in name}
    floor = peers - {"runc"}
    assert set(rows_of(results, "exec")) == sandboxes | runs | peers
    assert set(rows_of(results, "pool")) == set(rows_of(results, "fork")) == sandboxes | floor
    for part, figure in (
        ("exec", "p50_ms"),
        ("fork", "p50_ms"),
        ("fork", "commands_in_all_p50_ms"),
    ):
        assert all(row[figure] > 0 for (row,) in rows_of(results, part).values())
    if floor:
        assert rows_of(results, "pool")["floor"] == [{}]
        assert len(rows_of(results, "density")["floor"]) == 3  # none, one, and their removal

    *levels, removal = rows_of(results, "density")["orlop"]
    assert ["pss_each_kb" in level for level in levels] == [False, True, True]
    assert all(level["engine_pss_mb"] > 1 for level in levels)
    assert removal["removal_s"] > 0

    soaked = rows_of(results, "soak")
    assert set(soaked) == WAYS | floor
    for name, (figures,) in soaked.items():
        assert figures["starts"] == 40
        assert figures["per_second"] > 0
        if name != "floor":
            assert figures["left_processes"] < 10  # of 40; a reserve may have been away before


def test_parts_of_another_module_are_measured_in_the_same_way(place: Place) -> None:
    """Those of the folder bench/ that need no peers; they may change namespaces and limits."""
    folder = place.folder
    options = ["--also=bench", "--only=start,engine_start,attach,runtimes", "--live=2"]
    process = bench(place, *options, "--starts=1", "--peers=orlop-runtime", "-ofound.json")
    assert ended(process) == 0, (folder / "err").read_text()
    results = json.loads((folder / "found.json").read_text())
    assert results["left_out"] == []
    assert rows_of(results, "start")["orlop"][0]["first_p50_ms"] > 0
    assert len(rows_of(results, "start")["a step"]) > 20
    assert rows_of(results, "engine_start")["orlop"][0]["shim_p50_ms"] > 0
    assert rows_of(results, "attach")["orlop"][0]["attach_p50_ms"] > 0
    verbs = rows_of(results, "runtimes")["orlop-runtime"]
    assert [row["p50_ms"] > 0 for row in verbs] == [True] * 8
    assert verbs[0]["cgroup_mib"] > 1


def test_a_hostile_neighbour_is_started_with_limits_and_goes(place: Place) -> None:
    folder = place.folder
    process = bench(place, "--only=neighbours", "--starts=1", "--peers=floor", "-ofound.json")
    assert ended(process) == 0, (folder / "err").read_text()
    results = json.loads((folder / "found.json").read_text())
    rows = [(row["driver"], row["case"]) for row in results["rows"]]
    kinds = ["fork bomb", "memory hog", "log flood", "ignores SIGTERM", "disk filler"]
    drivers = ["orlop", "floor"] if shutil.which("cc") else ["orlop"]
    assert rows == [(driver, kind) for driver in drivers for kind in kinds]
    assert all(row["figures"]["ratio"] > 0 for row in results["rows"])
    assert results["left_out"] == [line for line in results["left_out"] if "neighbours" not in line]


def test_an_interrupted_run_prints_what_it_has_and_leaves_nothing(place: Place) -> None:
    folder = place.folder
    process = bench(place, "--only=warm,soak", "--starts=1", "--soak=900000", "--peers=none")
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
