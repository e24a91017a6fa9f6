"""Engine, shim and pump are killed at each step of an operation; what was true stays true."""

from pathlib import Path

import pytest

from tests.integration.kills.scene import OPERATIONS, Scene, answering, kill_everywhere


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_engine_killed_at_any_step_loses_nothing(
    scene: Scene, tmp_path: Path, name: str
) -> None:
    def engine() -> int:
        assert scene.engine.process is not None
        return scene.engine.process.pid

    kill_everywhere(scene, name, engine, tmp_path / "calls")


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_shim_killed_at_any_step_loses_nothing(scene: Scene, tmp_path: Path, name: str) -> None:
    scene.may_lose_lines = name == "start"  # the first ones, where nobody pumps yet
    kill_everywhere(scene, name, lambda: answering(scene, "shim.sock"), tmp_path / "calls")


@pytest.mark.parametrize("name", ["start", "exec", "stop", "remove"])
def test_a_pump_killed_at_any_step_loses_no_container(
    scene: Scene, tmp_path: Path, name: str
) -> None:
    """What it had read and not yet written down is lost, and nothing else."""
    scene.may_lose_lines = True
    kill_everywhere(scene, name, lambda: answering(scene, "stdio.sock"), tmp_path / "calls")
