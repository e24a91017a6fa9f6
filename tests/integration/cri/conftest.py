"""What tests of the CRI share."""

from collections.abc import Iterator

import pytest

from tests.integration.cri.kubelet import Kubelet
from tests.integration.engines import EngineProcess


@pytest.fixture(scope="module")
def kubelet(engine: EngineProcess) -> Iterator[Kubelet]:
    """A kubelet that is connected to the module's engine."""
    connected = Kubelet(engine.run / "cri.sock")
    try:
        yield connected
    finally:
        connected.close()
