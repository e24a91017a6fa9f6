"""Settings from the environment."""

import pytest

from orlop.engine.settings import from_environment
from orlop.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 0), ("0", 0), ("4096", 4096), ("10k", 10 << 10), ("10M", 10 << 20), ("2g", 2 << 30)],
)
def test_size_of_a_disk_has_units(text: str, size: int) -> None:
    assert from_environment({"ORLOP_CONTAINER_DISK": text}).container_disk_bytes == size


def test_containers_have_no_limit_unless_it_is_set() -> None:
    assert from_environment({}).container_disk_bytes == 0


@pytest.mark.parametrize("text", ["much", "-1", "1.5x", "m", "10x", "10mm"])
def test_size_of_a_disk_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="ORLOP_CONTAINER_DISK"):
        from_environment({"ORLOP_CONTAINER_DISK": text})
