"""gRPC on the engine's socket, as grpcio and grpc-go read it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop import __version__
from orlop.api.cri import v1
from tests.integration.cri.kubelet import Kubelet, RefusedError
from tests.integration.engines import EngineProcess

_VERSION = "/runtime.v1.RuntimeService/Version"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine that no gRPC client has connected to."""
    process = EngineProcess(tmp_path)
    process.start()
    try:
        yield process
    finally:
        process.close()


def test_version_names_orlop(kubelet: Kubelet) -> None:
    answer = kubelet(v1.VersionRequest(version="v1"))
    assert (answer.runtime_name, answer.runtime_version) == ("orlop", __version__)
    assert answer.runtime_api_version == "v1"


def test_runtime_config_names_the_cgroup_driver(kubelet: Kubelet) -> None:
    answer = kubelet(v1.RuntimeConfigRequest())
    assert answer.linux.cgroup_driver == v1.CGROUPFS


@pytest.mark.parametrize(
    ("path", "message", "code", "kind"),
    [
        ("/runtime.v1.RuntimeService/NoSuchMethod", b"", "UNIMPLEMENTED", "unsupported"),
        ("/no.such.Service/Version", b"", "UNIMPLEMENTED", "unsupported"),
        (_VERSION, b"\xff\xff", "INVALID_ARGUMENT", "invalid_argument"),
        (_VERSION, bytes(17 << 20), "RESOURCE_EXHAUSTED", "exhausted"),
    ],
)
def test_a_wrong_call_is_refused(
    kubelet: Kubelet, path: str, message: bytes, code: str, kind: str
) -> None:
    ((answer, *error),) = kubelet.raw([(path, message, 20)])
    assert answer is None
    assert (error[0], error[2]) == (code, kind)
    assert "\n" not in error[1]
    assert kubelet(v1.VersionRequest()).runtime_name == "orlop"


def test_many_calls_at_once_are_answered(kubelet: Kubelet) -> None:
    answers = kubelet.all([v1.VersionRequest()] * 300)
    assert {answer.runtime_name for answer in answers} == {"orlop"}


def test_the_engine_loads_grpc_when_a_client_comes(own: EngineProcess) -> None:
    assert own.process is not None
    maps = Path(f"/proc/{own.process.pid}/maps")
    assert "google" not in maps.read_text()
    client = Kubelet(own.run / "cri.sock")
    assert client(v1.VersionRequest()).runtime_name == "orlop"
    assert "google" in maps.read_text()
    client.close()


def test_only_root_and_its_group_can_connect(engine: EngineProcess) -> None:
    found = os.stat(engine.run / "cri.sock")
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (0, 0)


def test_an_engine_that_ends_closes_connections_and_socket(own: EngineProcess) -> None:
    client = Kubelet(own.run / "cri.sock")
    client(v1.VersionRequest())
    assert own.stop() == 0
    assert not (own.run / "cri.sock").exists()
    with pytest.raises(RefusedError) as refused:
        client(v1.VersionRequest(), timeout_s=2)
    assert refused.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    client.close()
