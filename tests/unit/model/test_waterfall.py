"""Steps on a terminal."""

from orlop.model.timeline import Step
from orlop.model.waterfall import waterfall

_MS = 1_000_000

STEPS = (
    Step("run", "client", 0, 40 * _MS),
    Step("start", "engine", 10 * _MS, 20 * _MS),
    Step("program", "container", 20 * _MS, 30 * _MS),
)


def test_bars_stand_where_the_time_went() -> None:
    heading, *lines = waterfall(STEPS, width=100)
    assert heading.split() == ["begin", "took"]
    assert [line.split()[:5] for line in lines[:3]] == [
        ["0.000", "40.000", "ms", "client", "run"],
        ["10.000", "10.000", "ms", "engine", "start"],
        ["20.000", "10.000", "ms", "container", "program"],
    ]
    run, start, program = (_bar(line) for line in lines[:3])
    assert max(map(len, lines)) <= 100
    assert run[0] == min(bar[0] for bar in (run, start, program))
    assert run[1] == max(bar[1] for bar in (run, start, program))
    assert start[1] == program[0]
    assert abs((start[1] - start[0]) * 4 - (run[1] - run[0])) <= 4


def test_a_long_program_leaves_room_for_what_led_to_it() -> None:
    hour = 3600 * 1000 * _MS
    steps = (
        Step("run", "client", 0, hour + 40 * _MS),
        Step("start", "engine", 10 * _MS, 20 * _MS),
        Step("program", "container", 20 * _MS, 20 * _MS + hour),
    )
    _, run, start, program, note = waterfall(steps, width=100)
    assert (_bar(run)[1] - _bar(run)[0]) < 6 * (_bar(start)[1] - _bar(start)[0])
    assert "3600000.000 ms" in program
    assert "shorter" in note


def test_nothing_is_shown_as_nothing() -> None:
    assert list(waterfall((), width=100)) == []


def _bar(line: str) -> tuple[int, int]:
    """Return the columns from which and up to which the bar goes."""
    begin = next(at for at, letter in enumerate(line) if letter in "█▏")
    return begin, len(line.rstrip())
