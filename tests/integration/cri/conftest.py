"""What tests of the CRI share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cri.kubelet import Kubelet
from tests.integration.cri.pod import Pod, remove_cgroups
from tests.integration.engines import EngineProcess


@pytest.fixture(scope="module")
def kubelet(engine: EngineProcess) -> Iterator[Kubelet]:
    """A kubelet that is connected to the module's engine."""
    connected = Kubelet(engine.run / "cri.sock")
    try:
        yield connected
    finally:
        connected.close()


@pytest.fixture(scope="module")
def loaded(engine: EngineProcess, busybox_archive: Path) -> None:
    """Have the image busybox:test."""
    engine.docker("load", "-i", str(busybox_archive))


@pytest.fixture
def make_pod(kubelet: Kubelet, tmp_path: Path, loaded: None) -> Iterator[Callable[..., Pod]]:
    """Make pods, which are not yet run; they are removed in the end, with their cgroups."""
    del loaded
    made: list[Pod] = []

    def make(**changes: Any) -> Pod:
        made.append(Pod(kubelet, tmp_path, **changes))
        return made[-1]

    try:
        yield make
    finally:
        for pod in made:
            if pod.id:
                pod.remove()
        remove_cgroups()


@pytest.fixture
def pod(make_pod: Callable[..., Pod]) -> Pod:
    """A pod that runs."""
    return make_pod().run()
