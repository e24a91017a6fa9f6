"""Every check of the OCI validation programs that runc passes here, Orlop passes too."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.validation.known import PROGRAMS
from tests.validation.pairs import AT_ONCE, Pair, pair
from tests.validation.runs import read_tap
from tests.validation.suite import INSIDE, ROOTFS, programs


@pytest.fixture(scope="module")
def pairs(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Pair]]]:
    """The programs that were asked for, at work side by side: most of their time is sleep."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    wanted = [
        str(item.callspec.params["program"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_orlop_passes_what_runc_passes
    ]
    programs()  # built before there are threads
    with ThreadPoolExecutor(AT_ONCE) as workers:
        yield {program: workers.submit(pair, program) for program in wanted}


@pytest.mark.parametrize("program", PROGRAMS)
def test_orlop_passes_what_runc_passes(program: str, pairs: dict[str, Future[Pair]]) -> None:
    found = pairs[program].result()
    assert not found.missing, f"{found.missing}\n{found.orlop.output}"


def test_every_program_of_the_suite_is_run() -> None:
    built = {path.name for path in programs().iterdir()}
    assert built - {INSIDE, ROOTFS} == set(PROGRAMS)


def test_output_of_a_program_is_read_as_the_protocol_says() -> None:
    output = """TAP version 13
ok 1 - same
  ---
  {"error": "belongs to a check that passed"}
  ...
not ok 2 - same
ok 3 # SKIP cannot
not ok 4 - later # TODO
1..4
"""
    assert read_tap(output, 0) == {"same": True, "same (2)": False, "ends well": True}


def test_program_that_only_complains_has_failed() -> None:
    output = 'TAP version 13\n  ---\n  {"error":"not in order"}\n  ...\n1..0\n'
    assert read_tap(output, 0) == {"nothing to complain of": False, "ends well": True}
    assert read_tap("1..0\n", 0) == {"nothing to complain of": True, "ends well": True}
    assert read_tap("1..0\n", 1) == {"ends well": False}
