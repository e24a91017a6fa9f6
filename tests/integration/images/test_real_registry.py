"""Pull and push against Debian's docker-registry, and skopeo as a second opinion."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.errors import NotFoundError, PermissionDeniedError
from orlop.images.auth import Credentials
from orlop.images.exchange import Patience
from orlop.images.progress import Kind
from orlop.images.pull import fetch_layers, resolve
from orlop.images.push import mount_sources, push
from orlop.images.registry import Registry, source_of
from orlop.images.upload import upload_blob
from orlop.model import image as documents
from orlop.model.digest import Digest
from orlop.model.platform import parse_platform
from orlop.model.reference import parse_reference
from orlop.store.content import Content
from tests.integration.images import samples, servers

LOGIN = Credentials(username=servers.USER, password=servers.PASSWORD)
QUICK = Patience(attempts=3, first_wait_s=0.01)


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.registry(tmp_path_factory.mktemp("open")) as host:
        yield host


@pytest.fixture(scope="module")
def basic_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("basic")
    with servers.registry(folder, servers.htpasswd(folder)) as host:
        yield host


@pytest.fixture(scope="module")
def token_registry(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, servers.Server]]:
    folder = tmp_path_factory.mktemp("token")
    tokens = servers.TokenServer(folder)
    with (
        servers.serving(tokens.handle) as server,
        servers.registry(folder, tokens.auth(server.url)) as host,
    ):
        yield host, server


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return samples.store(tmp_path / "content")


@pytest.fixture
def empty(tmp_path: Path) -> Content:
    return samples.store(tmp_path / "empty")


def connect(name: str, login: Credentials | None = None) -> Registry:
    source = source_of(parse_reference(name), login, folders=())
    return Registry(source, patience=QUICK)


def push_as(name: str, sample: samples.Sample, content: Content, login: Credentials | None) -> None:
    with connect(name, login) as registry:
        push(registry, parse_reference(name), sample.record, content)


def pull_as(
    name: str, content: Content, login: Credentials | None = None, platform: str | None = None
) -> documents.ImageConfig:
    with connect(name, login) as registry:
        wanted = parse_platform(platform) if platform else None
        found = resolve(registry, parse_reference(name), content, platform=wanted)
        fetch_layers(registry, found, content)
    for layer in found.layers:
        content.verify(layer.descriptor.digest)
    return found.config


@pytest.mark.parametrize("media_type", samples.ENCODERS)
def test_what_is_pushed_comes_back_the_same(
    open_registry: str, content: Content, empty: Content, media_type: str
) -> None:
    name = f"{open_registry}/there/and/back:1"
    layers = [samples.tar_of({"a": bytes(300_000)}), samples.tar_of({"b": b"b"})]
    sample = samples.make(content, layers=layers, media_type=media_type)
    push_as(name, sample, content, None)
    config = pull_as(name, empty)
    assert config.config.cmd == ("/hello",)
    assert {blob.digest for blob in empty.walk()} == {blob.digest for blob in content.walk()}


def test_skopeo_reads_what_was_pushed_and_what_it_pushes_is_pulled(
    open_registry: str, content: Content, empty: Content
) -> None:
    name = f"{open_registry}/skopeo"
    sample = samples.make(content)
    push_as(f"{name}:ours", sample, content, None)
    skopeo = ["skopeo", "--override-os", "linux"]
    seen = json.loads(
        subprocess.check_output([*skopeo, "inspect", "--tls-verify=false", f"docker://{name}:ours"])
    )
    assert seen["Digest"] == sample.record.target.digest
    assert seen["Labels"] == {"made": "here"}
    copy = [*skopeo, "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"]
    schema_2 = ["--format", "v2s2", f"docker://{name}:ours", f"docker://{name}:docker"]
    subprocess.run([*copy, *schema_2], check=True)
    with connect(f"{name}:docker") as registry:
        found = resolve(registry, parse_reference(f"{name}:docker"), empty)
        fetch_layers(registry, found, empty)
        assert sorted(registry.tags()) == ["docker", "ours"]
    assert found.descriptor.media_type == documents.DOCKER_MANIFEST
    assert found.config.config.labels == {"made": "here"}


def test_the_platform_is_chosen_from_an_index(
    open_registry: str, content: Content, empty: Content
) -> None:
    name = f"{open_registry}/many:1"
    platforms = ["linux/amd64", "linux/arm64/v8", "linux/arm/v6"]
    made = {
        text: samples.make(
            content, layers=[samples.tar_of({text: b""})], platform=parse_platform(text)
        )
        for text in platforms
    }
    record = samples.make_index(content, made, "x")
    push_as(name, samples.Sample(record, made["linux/amd64"].manifest), content, None)
    for text in platforms:
        assert pull_as(name, empty, platform=text).platform == parse_platform(text)
    with pytest.raises(NotFoundError, match=r"no image for linux/s390x.*linux/amd64"):
        pull_as(name, empty, platform="linux/s390x")
    by_digest = f"{open_registry}/many@{record.target.digest}"
    assert pull_as(by_digest, empty, platform="linux/arm/v7").platform.variant == "v6"


def test_an_image_of_another_platform_is_not_taken_for_the_one_asked_for(
    open_registry: str, content: Content, empty: Content
) -> None:
    name = f"{open_registry}/single:1"
    push_as(name, samples.make(content, platform=parse_platform("linux/s390x")), content, None)
    with pytest.raises(NotFoundError, match="no image for linux/amd64"):
        pull_as(name, empty, platform="linux/amd64")


def test_a_blob_is_mounted_from_another_repository_and_sent_once(
    open_registry: str, content: Content
) -> None:
    sample = samples.make(content, f"{open_registry}/first:1", [samples.tar_of({"m": b"mount"})])
    push_as(sample.record.name, sample, content, None)
    reference = parse_reference(f"{open_registry}/second:1")
    kinds: dict[Digest, Kind] = {}

    def note(digest: Digest, kind: Kind, _done: int, _total: int) -> None:
        kinds[digest] = kind

    for expected in (Kind.MOUNT, Kind.EXISTS):
        with connect(str(reference)) as registry:
            mounts = mount_sources(content, [sample.record], reference)
            push(registry, reference, sample.record, content, mounts=mounts, progress=note)
        assert kinds[sample.manifest.layers[0].digest] == expected


def test_an_upload_in_chunks_arrives_whole(
    open_registry: str, content: Content, empty: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orlop.images.upload.CHUNK_BYTES", 1000)
    monkeypatch.setattr("orlop.images.upload._Upload.send_whole", lambda *_: False)
    blob = samples.stored(content, bytes(range(256)) * 20, documents.OCI_LAYER)
    with connect(f"{open_registry}/chunked") as registry:
        upload_blob(registry, blob, content, progress=lambda *_: None)
        answer, _ = registry.open_blob(blob.digest)
        with answer:
            empty.add(answer.read(10_000))
    empty.verify(blob.digest)


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_who_logs_in_may_push_and_pull(
    kind: str, request: pytest.FixtureRequest, content: Content, empty: Content
) -> None:
    fixture = request.getfixturevalue(f"{kind}_registry")
    host = fixture if isinstance(fixture, str) else fixture[0]
    name = f"{host}/private/{kind}:1"
    sample = samples.make(content)
    push_as(name, sample, content, LOGIN)
    pull_as(name, empty, LOGIN)
    with connect(name, LOGIN) as registry:
        registry.ping()
    wrong = Credentials(username=servers.USER, password="wrong")
    with pytest.raises(PermissionDeniedError, match="wrong user name or password"):
        pull_as(name, empty, wrong)
    with pytest.raises(PermissionDeniedError, match="wrong user name"), connect(name, wrong) as one:
        one.ping()
    with pytest.raises(PermissionDeniedError, match="needs a login"):
        push_as(name, sample, content, None)


def test_a_registry_with_basic_login_tells_strangers_to_log_in(
    basic_registry: str, empty: Content
) -> None:
    with pytest.raises(PermissionDeniedError, match=f"orlop login {basic_registry}"):
        pull_as(f"{basic_registry}/x:1", empty)


def test_strangers_and_refresh_tokens_get_tokens_too(
    token_registry: tuple[str, servers.Server], content: Content, empty: Content
) -> None:
    host, server = token_registry
    name = f"{host}/public:1"
    refresh = Credentials(identity_token=servers.TokenServer.REFRESH)
    push_as(name, samples.make(content), content, refresh)
    pull_as(name, empty)
    assert "Authorization" not in server.seen[-1].headers
    assert "repository%3Apublic%3Apull" in server.seen[-1].path


def test_what_does_not_exist_is_named(open_registry: str, empty: Content) -> None:
    with pytest.raises(NotFoundError, match=f"{open_registry}/no/such"):
        pull_as(f"{open_registry}/no/such:1", empty)
    assert list(empty.walk()) == []
