"""A storm of kills loses no exit status."""

from pathlib import Path

import pytest

from tests.integration.kills.scene import Scene
from tests.integration.kills.storm import Storm, settle

_SEED = 12


def _assert_true(scene: Scene, storm: Storm) -> None:
    """Fail unless each container ended as it says it did; name all that did not."""
    wrong = []
    for ran in storm.ran:
        state, written = scene.state(ran.name), storm.written(ran)
        told = (state["Status"], state["ExitCode"], state["Error"])
        if told[:2] != ("exited", ran.code) and (ran.started or written):
            wrong.append((ran, told, written))
    assert not wrong, f"{len(wrong)} of {len(storm.ran)} after {storm.kills} kills: {wrong}"


def _rage(scene: Scene, folder: Path, *, seconds: float) -> None:
    folder.chmod(0o777)
    storm = Storm(scene, folder, seed=_SEED)
    storm.rage(seconds)
    assert storm.failures == []
    settle(scene, storm.ran)
    print(len(storm.ran), "containers", storm.kills, "kills")
    _assert_true(scene, storm)
    scene.assert_alive(scene.witness)
    scene.nothing_left("a storm of kills")


def test_a_storm_of_kills_loses_no_exit_status(scene: Scene, tmp_path: Path) -> None:
    _rage(scene, tmp_path, seconds=40)


@pytest.mark.machine
@pytest.mark.timeout(2400)
def test_half_an_hour_of_kills_loses_no_exit_status(scene: Scene, tmp_path: Path) -> None:
    _rage(scene, tmp_path, seconds=1800)
