"""The engine is killed at each step of an operation, and started again."""

from pathlib import Path

import pytest

from tests.integration.kills.scene import OPERATIONS, Scene
from tests.integration.kills.strikes import chosen, noting, striking


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_engine_killed_at_any_step_loses_nothing(
    scene: Scene, tmp_path: Path, name: str
) -> None:
    operation = OPERATIONS[name]
    assert scene.engine.process is not None
    ref = operation.prepare(scene)
    with noting(scene.engine.process.pid, tmp_path / "calls") as points:
        operation.act(scene, ref)
    operation.check(scene, ref, True)
    scene.nothing_left(f"{name}, with no kill at all")
    for point in chosen(points):
        ref = operation.prepare(scene)
        with striking(scene.engine.process.pid, point):
            well = operation.act(scene, ref)
        scene.revive()
        try:
            operation.check(scene, ref, well)
        except AssertionError as error:
            raise AssertionError(f"{name} killed at {point}: {error}") from error
        scene.nothing_left(f"{name}, killed at {point}")
    scene.assert_alive(scene.witness)
    scene.assert_counted_without_gap(scene.witness)
