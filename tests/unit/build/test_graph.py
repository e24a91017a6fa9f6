"""A build needs only the stages that its target names."""

import pytest

from orlop.build.graph import find_stage, needed, sources_of, target_stage
from orlop.build.parse import parse
from orlop.errors import InvalidArgumentError

FILE = parse(
    b"FROM base AS a\nFROM a AS unneeded\nFROM base AS b\n"
    b"RUN --mount=type=bind,from=a,target=/x y\nFROM $B\nCOPY --from=b x y\n"
)


@pytest.mark.parametrize(
    ("target", "variables", "expected"),
    [
        ("", {"B": "base"}, [0, 2, 3]),
        ("", {"B": "unneeded"}, [0, 1, 2, 3]),
        ("B", {}, [0, 2]),
        ("0", {}, [0]),
    ],
)
def test_needed_stages_come_in_the_order_of_the_file(
    target: str, variables: dict[str, str], expected: list[int]
) -> None:
    stages = needed(FILE, target_stage(FILE, target), variables)
    assert [stage.number for stage in stages] == expected


def test_a_stage_is_found_by_name_or_number_only_before_it() -> None:
    first = find_stage(FILE, "A", before=1)
    assert first is not None
    assert first.number == 0
    assert find_stage(FILE, "b", before=2) is None
    assert find_stage(FILE, "2", before=2) is None


def test_sources_are_flags_of_copies_and_mounts() -> None:
    assert sources_of(FILE.stages[2].steps[0]) == ["a"]
    assert sources_of(FILE.stages[3].steps[0]) == ["b"]


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="target stage 'x' could not be found"):
        target_stage(FILE, "x")
