"""Plans, figures, loads and reports of the benchmark, without an engine."""

import io
import json
import os
import threading
from collections.abc import Callable

import pytest

from orlop.benchmark.alone import measure_alone
from orlop.benchmark.bench import Bench, Found, Results
from orlop.benchmark.driver import BenchDriver, TimedStart
from orlop.benchmark.figures import Row, percentile, spread
from orlop.benchmark.load import each, load
from orlop.benchmark.parts import PARTS, warm
from orlop.benchmark.plan import PEERS, BenchPlan
from orlop.benchmark.report import as_json, as_markdown, as_text
from orlop.cli import main
from orlop.errors import InvalidArgumentError, UnavailableError

MACHINE = {
    "time": "now", "orlop": "1", "python": "3", "kernel": "6", "architecture": "x", "cpus": 2,
    "processor": "p", "memory_mb": 1, "cgroups": "v2", "peers": {},
}  # fmt: skip


def results(*rows: Row) -> Results:
    return Results(machine=MACHINE, plan={}, parts=PARTS, rows=list(rows))


def row(driver: str, at: float, **figures: float) -> Row:
    return Row("concurrency", driver, f"{at:g} at once", at, figures, {})


def a_bench(**settings: str) -> tuple[list[Row], list[str], Bench]:
    """Return a bench for a few starts, and the rows, and what is left out, that it tells."""
    found = results()

    def tell(what: Found) -> None:
        if isinstance(what, Row):
            found.rows.append(what)
        elif isinstance(what, str):
            found.left_out.append(what)

    plan = BenchPlan(starts=3, settings=settings)
    return found.rows, found.left_out, Bench(plan, None, (), tell)  # type: ignore[arg-type]  # no image is needed


class Scripted(BenchDriver):
    """A driver whose starts do what a test says."""

    def __init__(self, name: str, action: Callable[[], TimedStart]) -> None:
        self.name = name
        self.once = action  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "cold"), "no part 'cold'"),
        (("--peers", "lxc"), "no peer 'lxc'"),
        (("--set", "seconds=2"), "no setting 'seconds'"),
        (("--set", "seconds"), "invalid --set seconds"),
        (("--also", "orlop.nothing"), "invalid --also orlop.nothing: No module named"),
        (("--also", "orlop.errors"), "invalid --also orlop.errors: "),
        (("--clients", "1,x"), "invalid --clients 1,x"),
        (("--clients", "0"), "invalid --clients 0"),
        (("--live", "2000000"), "invalid --live 2000000 (1 to"),
        (("--peer-density", "0"), "invalid --peer-density 0"),
        (("--format", "xml"), "invalid value 'xml' for --format"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: tuple[str, ...], message: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    harmless = ["--only", "warm", "--starts", "1", "--peers", "none"]  # were it not refused
    assert main.main(["bench", *harmless, *words], out, err) != 0
    assert message in err.getvalue()
    assert out.getvalue() == ""


def test_a_plan_is_for_all_parts_and_peers() -> None:
    assert BenchPlan().peers == PEERS
    with pytest.raises(InvalidArgumentError):
        BenchPlan(rounds=0)


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 0.99) == 100
    assert percentile([7.0], 0.99) == 7
    assert spread({"first_ms": [1, 2, 9]}) == {"first_p50_ms": 2, "first_p99_ms": 9}


def test_a_load_is_done_so_many_times_by_so_many_clients() -> None:
    together = threading.Barrier(4)  # none goes on before four are here at once

    def act() -> str:
        together.wait(timeout=60)
        return threading.current_thread().name

    found = load(act, clients=4, count=12)
    assert len(found.done) == 12
    assert len(set(found.done)) == 4
    assert found.makespan_s > 0


def test_failures_of_a_load_are_kept_and_one_without_success_is_an_error() -> None:
    outcomes = iter([True, False, True])

    def act() -> int:
        if next(outcomes):
            return 1
        raise OSError("refused")

    found = load(act, clients=1, count=3)
    assert found.done == [1, 1]
    assert found.failures == ["OSError: refused"]
    with pytest.raises(UnavailableError, match="nothing was done: ZeroDivisionError"):
        load(lambda: 1 // 0, clients=2, count=2)
    with pytest.raises(UnavailableError, match=r"1 of 2 failed: ValueError"):
        each(int, ["1", "x"], clients=1)


def test_a_driver_that_fails_is_left_out_and_the_others_go_on() -> None:
    def refuse() -> TimedStart:
        raise UnavailableError("it is ill")

    rows, left_out, bench = a_bench()
    bench.drivers = [Scripted("ill", refuse), Scripted("well", lambda: TimedStart(1.0, 2.0))]
    bench.begin("warm", {})
    warm.measure(bench)
    assert [(one.driver, one.figures["starts"]) for one in rows] == [("well", 3)]
    assert left_out == ["warm: ill: it is ill"]


def test_a_part_that_is_measured_alone_gives_back_what_it_finds_until_it_fails() -> None:
    def measure(bench: Bench) -> None:
        bench.add("orlop", {"pid": os.getpid(), **spread({"ms": [float(bench.settings["ms"])]})})
        raise OSError("and no more")

    rows, left_out, bench = a_bench(ms="4")
    bench.begin("odd", {"ms": "3", "other": ""})
    measure_alone(bench, measure)
    assert [(row.part, row.driver, row.figures["p50_ms"]) for row in rows] == [("odd", "orlop", 4)]
    assert rows[0].figures["pid"] != os.getpid()
    assert left_out == ["odd: and no more"]


def test_a_part_that_is_measured_alone_ends_with_the_run() -> None:
    def stop(what: Found) -> None:
        if isinstance(what, Row):
            rows.append(what)
            raise KeyboardInterrupt

    def measure(bench: Bench) -> None:
        bench.add("orlop", {"pid": os.getpid()})
        threading.Event().wait()

    rows: list[Row] = []
    _, _, bench = a_bench()
    bench.tell = stop
    with pytest.raises(KeyboardInterrupt):
        measure_alone(bench, measure)
    with pytest.raises(ProcessLookupError):
        os.kill(int(rows[0].figures["pid"]), 0)


def test_reports_compare_with_orlop_in_the_same_case() -> None:
    found = results(
        row("orlop", 1, per_second=100.0, cpu_ms=8.0),
        row("docker", 1, per_second=5.0),
        row("orlop", 16, per_second=250.0, cpu_ms=7.5),
    )
    found.interrupted = True
    text = as_text(found)
    assert "interrupted" in text
    docker = next(line for line in text.splitlines() if "docker" in line)
    assert docker.split() == ["docker", "1", "at", "once", "5", "20.00"]
    assert "| docker | 1 at once | 5 |  | 20.00 |" in as_markdown(found)
    assert json.loads(as_json(found))["rows"][2]["figures"]["cpu_ms"] == 7.5


def test_a_driver_of_which_nothing_can_be_measured_says_so() -> None:
    floor = Row("pool", "floor", "nothing is asked", 0, {}, {})
    rows = (Row("pool", "orlop", "of 4", 0, {"take_p50_ms": 0.5}, {}), floor)
    assert "| floor | nothing is asked | - |" in as_markdown(results(*rows))
