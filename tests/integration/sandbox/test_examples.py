"""The programs in examples/ do what they say."""

import subprocess
import sys
from pathlib import Path

from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import ids

EXAMPLES = Path(__file__).parents[3] / "examples"


def run(engine: EngineProcess, name: str, *words: str, exit_code: int = 0) -> list[str]:
    """Run an example with *words*; return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *words],
        env=engine.environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == exit_code, done.stderr
    assert ids(engine) == set()
    return (done.stdout or done.stderr).splitlines()


def test_code_interpreter_returns_what_is_printed_and_written(engine: EngineProcess) -> None:
    draw = "open('plot.svg', 'w').write('<svg/>'); print(6 * 7)"
    lines = run(engine, "code_interpreter", draw, "1 / 0", "open('/etc/x', 'w')")
    assert lines[:2] == ["42", "plot.svg: 6 bytes"]
    assert "ZeroDivisionError: division by zero" in lines
    assert "PermissionError: [Errno 13] Permission denied: '/etc/x'" in lines


def test_map_goes_over_all_inputs(engine: EngineProcess) -> None:
    done = sum(number**2 for number in range(20) if number != 13)
    assert run(engine, "map_inputs", "20") == [f"19 of 20 done, {done} in all"]


def test_test_runner_keeps_the_files_apart(engine: EngineProcess, tmp_path: Path) -> None:
    body = """
import pathlib, unittest
class T(unittest.TestCase):
    def test(self):
        self.assertFalse(pathlib.Path("left").exists())
        pathlib.Path("left").touch()
"""
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / name).write_text(body)
    assert run(engine, "run_tests", str(tmp_path)) == ["passed test_a.py", "passed test_b.py"]
    (tmp_path / "test_c.py").write_text(body.replace("assertFalse", "assertTrue"))
    assert "FAILED test_c.py" in run(engine, "run_tests", str(tmp_path), exit_code=1)


def test_test_runner_says_what_it_needs(engine: EngineProcess, tmp_path: Path) -> None:
    usage = "usage: run_tests.py [-h] folder"
    without = run(engine, "run_tests", exit_code=2)
    assert without == [usage, "run_tests.py: error: the following arguments are required: folder"]
    missing = str(tmp_path / "missing")
    without = run(engine, "run_tests", missing, exit_code=2)
    assert without == [usage, f"run_tests.py: error: no folder {missing}"]


def test_untrusted_plugins_answer_find_nothing_and_end(engine: EngineProcess) -> None:
    good, curious, hanging = run(engine, "untrusted_plugin")
    assert (good, curious) == ("{'shout': 'HELLO'}", "{'found': []}")
    assert hanging == "no answer within 1 s"


def test_notebook_remembers_and_is_interrupted(engine: EngineProcess) -> None:
    cells = ["x = 20", "print('hi'); x + 1", "while True: pass", "1 / 0", "x"]
    assert run(engine, "notebook", *cells) == [
        "[1] None",
        "hi",
        "[2] 21",
        "[3] KeyboardInterrupt",
        "[4] ZeroDivisionError: division by zero",
        "[5] 20",
    ]


def test_notebook_shows_what_programs_print_that_a_cell_starts(engine: EngineProcess) -> None:
    cells = ["import os; os.system('echo of a child; echo of its errors >&2; cat')", "6 * 7"]
    lines = run(engine, "notebook", *cells)
    assert lines == ["of a child", "of its errors", "[1] 0", "[2] 42"]


def test_expressions_are_worked_out_apart(engine: EngineProcess) -> None:
    hog = "bytearray(500_000_000)"
    lines = run(engine, "warm_expressions", "sqrt(4) * x", "globals().clear()", "1 / 0", hog, "x")
    assert [line.split(maxsplit=1)[1] for line in (lines[0], lines[4])] == [
        "* x          [[0, 0.0], [1, 2.0], [2, 4.0], [3, 6.0], [4, 8.0]]",
        "[[0, 0], [1, 1], [2, 2], [3, 3], [4, 4]]",
    ]
    assert lines[2].endswith("ZeroDivisionError: division by zero")
    assert lines[3].endswith("takes too much memory")


def test_forked_session_goes_on_in_several_ways(engine: EngineProcess) -> None:
    lines = run(engine, "forked_session", "import math; x = 20", "x + 1", "math.sqrt(x * 5)", "y")
    assert lines[1:] == [
        "[1] {'value': '21'}",
        "[2] {'value': '10.0'}",
        "[3] {'error': \"NameError: name 'y' is not defined\"}",
    ]


def test_forked_session_says_what_it_needs(engine: EngineProcess) -> None:
    lines = run(engine, "forked_session", "x = 20", exit_code=2)
    assert lines == [
        "usage: forked_session.py [-h] first others [others ...]",
        "forked_session.py: error: the following arguments are required: others",
    ]
