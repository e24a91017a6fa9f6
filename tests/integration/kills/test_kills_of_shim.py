"""The shim, or the process that pumps output, is killed at each step of an operation."""

from pathlib import Path

import pytest

from orlop.shim.client import Client
from tests.integration.kills.scene import OPERATIONS, Scene
from tests.integration.kills.strikes import chosen, noting, striking


def _pid(scene: Scene, name: str) -> int:
    """Return the pid of who answers at the socket *name*: the shim, or the stdio process."""
    client = Client(str(scene.engine.run / name))
    try:
        return int(client.call({"op": "hello"})["ok"]["pid"])
    finally:
        client.close()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_shim_killed_at_any_step_loses_nothing(scene: Scene, tmp_path: Path, name: str) -> None:
    operation = OPERATIONS[name]
    ref = operation.prepare(scene)
    with noting(_pid(scene, "shim.sock"), tmp_path / "calls") as points:
        operation.act(scene, ref)
    operation.check(scene, ref, True)
    scene.nothing_left(f"{name}, with no kill at all")
    for point in chosen(points):
        ref = operation.prepare(scene)
        with striking(_pid(scene, "shim.sock"), point):
            well = operation.act(scene, ref)
        scene.revive()
        try:
            operation.check(scene, ref, well)
        except AssertionError as error:
            raise AssertionError(f"{name}, shim killed at {point}: {error}") from error
        scene.nothing_left(f"{name}, shim killed at {point}")
    scene.assert_alive(scene.witness)
    scene.assert_counted_without_gap(scene.witness)
