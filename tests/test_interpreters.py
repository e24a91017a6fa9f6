"""Orlop with every other Python of this machine: the unit tests, and the main parts once.

A machine that has one Python alone has nothing to do here. Environments are made below .venv
when they are missing.
"""

import subprocess
from pathlib import Path

import pytest

from tests import interpreters

pytestmark = pytest.mark.timeout(1800)  # each runs many tests, and the first makes the environment

_MAIN_PARTS = (
    "oci_runtime/test_interpreter_escapes.py",
    "engine/test_life.py",
    "sandbox/test_life.py",
)


@pytest.fixture(scope="module", params=interpreters.others().items(), ids=lambda each: each[0])
def programs(request: pytest.FixtureRequest) -> Path:
    """The folder of programs of an environment with another Python."""
    return interpreters.environment(*request.param)


def run(*command: str | Path) -> None:
    """Run *command*; fail with its output if it fails."""
    done = subprocess.run(
        command,
        cwd=interpreters.ROOT,
        env=interpreters.variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def run_tests(programs: Path, *files: str) -> None:
    run(programs / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *files)


def test_the_unit_tests_pass(programs: Path) -> None:
    run_tests(programs, "tests/unit")


def test_a_container_runs_from_the_command_line(programs: Path) -> None:
    run("tools/demo", programs / "orlop")


def test_runtime_engine_and_sandboxes_work(programs: Path) -> None:
    run_tests(programs, *(f"tests/integration/{name}" for name in _MAIN_PARTS))
