"""`ctr content` and `ctr leases`; the service Content, spoken by hand where `ctr` does not."""

import hashlib
import signal
import threading
from collections.abc import Iterator

import grpc
import pytest

from orlop.api.containerd import v1
from tests.integration.containerd.conftest import Ctr, FailedError
from tests.integration.engines import EngineProcess

TEXT = b"hello\n"
DIGEST = "sha256:" + hashlib.sha256(TEXT).hexdigest()
HEADERS = (("containerd-namespace", "default"),)


class Content:
    """The service's calls that `ctr` does not let us shape."""

    def __init__(self, engine: EngineProcess) -> None:
        self._channel = grpc.insecure_channel(f"unix:{engine.run / 'containerd.sock'}")
        path = "/containerd.services.content.v1.Content"
        self._write = self._channel.stream_stream(
            f"{path}/Write",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=v1.WriteContentResponse.FromString,
        )
        self._read = self._channel.unary_stream(
            f"{path}/Read",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=v1.ReadContentResponse.FromString,
        )

    def write(self, *requests: v1.WriteContentRequest) -> list[v1.WriteContentResponse]:
        """Return the answers, one by one."""
        return [*self._write(iter(requests), metadata=HEADERS, timeout=20)]

    def read(self, digest: str, **where: int) -> bytes:
        """Return what is read."""
        request = v1.ReadContentRequest(digest=digest, **where)
        return b"".join(one.data for one in self._read(request, metadata=HEADERS, timeout=20))

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def content(engine: EngineProcess) -> Iterator[Content]:
    calls = Content(engine)
    yield calls
    calls.close()


@pytest.fixture
def blob(ctr: Ctr) -> Iterator[str]:
    ctr("content", "ingest", "a-ref", given=TEXT)
    yield DIGEST
    if DIGEST in ctr("content", "ls", "-q"):
        ctr("content", "rm", DIGEST)


def request(action: int, **more: object) -> v1.WriteContentRequest:
    return v1.WriteContentRequest(action=action, ref="ref", **more)  # type: ignore[arg-type]


def test_a_blob_is_stored_labelled_read_and_removed(ctr: Ctr, blob: str) -> None:
    assert ctr("content", "get", blob) == TEXT.decode()
    ctr("content", "label", blob, "colour=navy")
    assert ctr("content", "ls", "-q", "labels.colour==navy").split() == [blob]
    assert ctr("content", "ls", "-q", "labels.colour==navy", namespace="other") == ""
    ctr("content", "rm", blob)
    with pytest.raises(FailedError, match="not found"):
        ctr("content", "get", blob)


def test_what_is_leased_is_not_removed(ctr: Ctr, content: Content) -> None:
    ctr("leases", "create", "--id", "one", "who=test")
    assert "who=test" in ctr("leases", "ls")
    headers = (*HEADERS, ("containerd-lease", "one"))
    commit = request(v1.COMMIT, data=TEXT, expected=DIGEST)
    [*content._write(iter([commit]), metadata=headers, timeout=20)]
    with pytest.raises(FailedError, match="a lease needs the blob"):
        ctr("content", "rm", DIGEST)
    ctr("leases", "rm", "--sync", "one")
    assert ctr("content", "ls", "-q") == ""


def test_writing_continues_where_a_client_stopped(
    engine: EngineProcess, ctr: Ctr, content: Content
) -> None:
    begin = request(v1.STAT, expected=DIGEST, total=len(TEXT))
    content.write(begin, request(v1.WRITE, data=TEXT[:2]))
    assert ctr("content", "active").splitlines()[1].split()[:2] == ["ref", "2B"]
    engine.stop(signal.SIGKILL)
    engine.start()
    (answer,) = content.write(begin)
    assert answer.offset == 2
    rest = request(v1.COMMIT, data=TEXT[2:], offset=2, total=len(TEXT), labels={"a": "b"})
    assert content.write(begin, rest)[-1].digest == DIGEST
    assert ctr("content", "active").splitlines()[1:] == []
    assert ctr("content", "get", DIGEST) == TEXT.decode()
    with pytest.raises(grpc.RpcError, match="ALREADY_EXISTS"):
        content.write(begin)
    ctr("content", "rm", DIGEST)


def test_a_part_of_a_blob_can_be_read(content: Content, blob: str) -> None:
    assert content.read(blob, offset=1, size=3) == b"ell"
    assert content.read(blob, offset=4) == b"o\n"
    for where in ({"offset": 7}, {"offset": -1}, {"size": 7}, {"offset": 6, "size": 1}):
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            content.read(blob, **where)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (request(v1.COMMIT, data=b"other", expected=DIGEST), "DATA_LOSS"),
        (request(v1.COMMIT, data=TEXT, total=3), "DATA_LOSS"),
        (request(v1.WRITE, data=TEXT, offset=3), "INVALID_ARGUMENT"),
        (request(v1.STAT, expected="sha256:../../x"), "INVALID_ARGUMENT"),
        (request(v1.STAT, total=-1), "INVALID_ARGUMENT"),
        (v1.WriteContentRequest(action=v1.STAT, ref="x" * 2000), "INVALID_ARGUMENT"),
        (v1.WriteContentRequest(action=v1.STAT), "INVALID_ARGUMENT"),
    ],
)
def test_a_wrong_write_leaves_nothing(
    engine: EngineProcess, ctr: Ctr, content: Content, wrong: v1.WriteContentRequest, code: str
) -> None:
    with pytest.raises(grpc.RpcError, match=code):
        content.write(wrong)
    assert ctr("content", "ls", "-q") == ""
    left = [*(engine.root / "content" / "ingest").iterdir()]
    assert not [one for one in left if one.stat().st_size]


def test_two_clients_cannot_write_the_same_ref(content: Content) -> None:
    over = threading.Event()

    def slow() -> Iterator[v1.WriteContentRequest]:
        yield request(v1.STAT)
        over.wait(20)

    answers = content._write(slow(), metadata=HEADERS, timeout=20)
    next(answers)
    with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
        content.write(request(v1.STAT))
    over.set()
    assert [*answers] == []


@pytest.mark.parametrize("name", ["", "a b", "../x"])
def test_a_call_without_a_namespace_is_refused(content: Content, name: str) -> None:
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
        [*content._write(iter([request(v1.STAT)]), metadata=(("containerd-namespace", name),))]
