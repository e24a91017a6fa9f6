"""What of config.json becomes a cgroup's limits."""

from typing import Any

import pytest

from orlop.runtime.start import resources_of


@pytest.mark.parametrize(
    ("version", "limit", "kept"),
    [("1.0.2", 0, False), ("1.2.1-dev", 0, False), ("1.3.0", 0, True), ("1.0.2", 7, True)],
)
def test_no_processes_at_all_are_no_limit_for_older_bundles(
    version: str, limit: int, kept: bool
) -> None:
    config: Any = {"ociVersion": version, "linux": {"resources": {"pids": {"limit": limit}}}}
    assert ("pids" in resources_of(config)) is kept
    assert config["linux"]["resources"]["pids"] == {"limit": limit}
