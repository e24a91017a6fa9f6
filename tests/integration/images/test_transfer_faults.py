"""Downloads from servers that cut, lie, redirect and refuse; real sockets throughout."""

import re
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.errors import CorruptError, NotFoundError, PermissionDeniedError, UnavailableError
from orlop.images.auth import Credentials
from orlop.images.exchange import Patience
from orlop.images.fetch import fetch_blob
from orlop.images.hosts import Endpoint
from orlop.images.pull import fetch_layers, resolve
from orlop.images.registry import Registry, Source, source_of
from orlop.images.transport import Tls
from orlop.images.upload import upload_blob
from orlop.model import image as documents
from orlop.model.digest import Digest
from orlop.model.image import Descriptor, digest_of
from orlop.model.reference import parse_reference
from orlop.store.content import Content
from tests.integration.images import samples, servers

DATA = bytes(range(256)) * 12_000
BLOB = Descriptor(media_type=documents.OCI_LAYER, digest=digest_of(DATA), size=len(DATA))
LOGIN = Credentials(username=servers.USER, password=servers.PASSWORD)


class Clock:
    """Remembers for how long it was asked to sleep, and does not."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def patience(self, attempts: int = 4) -> Patience:
        return Patience(attempts=attempts, first_wait_s=0.1, sleep=self.slept.append)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return samples.store(tmp_path / "content")


def connect(server: servers.Server, clock: Clock, login: Credentials | None = None) -> Registry:
    source = Source(
        repository="some/image",
        endpoints=(Endpoint(url=f"{server.url}/v2", primary=True, headers={"X-Secret": "s"}),),
        credentials=login,
    )
    return Registry(source, patience=clock.patience(), timeout_s=5)


def fetched(content: Content) -> bool:
    if content.has(BLOB.digest):
        content.verify(BLOB.digest)
        return True
    return False


def from_range(exchange: servers.Exchange) -> int:
    match = re.fullmatch(r"bytes=(\d+)-", exchange.headers.get("Range", "bytes=0-"))
    assert match is not None
    return int(match[1])


def test_a_download_that_is_cut_goes_on_where_it_was(content: Content, clock: Clock) -> None:
    def cutting(exchange: servers.Exchange) -> None:
        start = from_range(exchange)
        headers = {"Content_Length": str(len(DATA) - start)}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
        exchange.reply(206 if start else 200, DATA[start : start + 700_000], **headers)
        exchange.cut()

    seen: list[bytes] = []
    with servers.serving(cutting) as server, connect(server, clock) as registry:
        fetch_blob(registry, BLOB, content, consumer=lambda view: seen.append(bytes(view)))
        assert len(server.seen) == 5
    assert fetched(content)
    assert b"".join(seen) == DATA


def test_a_server_that_cannot_seek_sends_all_again_and_no_byte_counts_twice(
    content: Content, clock: Clock
) -> None:
    def forgetful(exchange: servers.Exchange) -> None:
        first = len(exchange.seen) == 1
        exchange.reply(200, DATA[:700_000] if first else DATA, Content_Length=str(len(DATA)))
        if first:
            exchange.cut()

    seen: list[bytes] = []
    with servers.serving(forgetful) as server, connect(server, clock) as registry:
        fetch_blob(registry, BLOB, content, consumer=lambda view: seen.append(bytes(view)))
    assert fetched(content)
    assert b"".join(seen) == DATA


def test_an_interrupted_pull_is_gone_on_from_by_the_next(content: Content, clock: Clock) -> None:
    def ranged(exchange: servers.Exchange) -> None:
        start = from_range(exchange)
        assert start == 5000
        span = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
        exchange.reply(206, DATA[start:], Content_Range=span)

    with content.writer(BLOB.digest, size=BLOB.size) as writer:
        writer.write(DATA[:5000])
    seen: list[bytes] = []
    with servers.serving(ranged) as server, connect(server, clock) as registry:
        fetch_blob(registry, BLOB, content, consumer=lambda view: seen.append(bytes(view)))
    assert fetched(content)
    assert b"".join(seen) == DATA


def test_a_blob_that_is_here_is_not_asked_for_and_its_consumer_still_served(
    content: Content, clock: Clock
) -> None:
    content.add(DATA)
    seen: list[bytes] = []
    with (
        servers.serving(lambda exchange: exchange.reply(500)) as server,
        connect(server, clock) as registry,
    ):
        fetch_blob(registry, BLOB, content, consumer=lambda view: seen.append(bytes(view)))
        assert server.seen == []
    assert b"".join(seen) == DATA


@pytest.mark.parametrize(
    "body", [DATA[:-1], DATA + b"x", b"", DATA[:-1] + b"x"], ids=["short", "long", "none", "other"]
)
def test_a_layer_that_is_not_what_was_announced_leaves_nothing(
    content: Content, clock: Clock, body: bytes
) -> None:
    with (
        servers.serving(lambda exchange: exchange.reply(200, body)) as server,
        connect(server, clock) as registry,
        pytest.raises(CorruptError, match=BLOB.digest),
    ):
        fetch_blob(registry, BLOB, content)
    assert list(content.walk()) == []
    assert list(content.abandoned()) == []


def test_a_byte_too_many_is_seen_even_after_the_last_full_buffer(
    content: Content, clock: Clock
) -> None:
    data = DATA[: 1 << 20]
    blob = Descriptor(digest=digest_of(data), size=len(data))
    with (
        servers.serving(lambda exchange: exchange.reply(200, data + b"x")) as server,
        connect(server, clock) as registry,
        pytest.raises(CorruptError, match="longer"),
    ):
        fetch_blob(registry, blob, content)
    assert list(content.walk()) == []


def test_a_consumer_that_fails_stops_the_download_and_keeps_what_came(
    content: Content, clock: Clock
) -> None:
    def refuse(_: memoryview) -> None:
        raise ValueError("no more")

    with (
        servers.serving(lambda exchange: exchange.reply(200, DATA)) as server,
        connect(server, clock) as registry,
        pytest.raises(ValueError, match="no more"),
    ):
        fetch_blob(registry, BLOB, content, consumer=refuse)
    assert not content.has(BLOB.digest)
    assert len(list(content.abandoned())) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_registry_is_asked_again_when_it_says(
    content: Content, clock: Clock, status: int
) -> None:
    def busy(exchange: servers.Exchange) -> None:
        if len(exchange.seen) < 3:
            return exchange.reply(status, Retry_After="7")
        return exchange.reply(200, DATA)

    with servers.serving(busy) as server, connect(server, clock) as registry:
        fetch_blob(registry, BLOB, content)
    assert fetched(content)
    assert clock.slept == [7.0, 7.0]


def test_patience_is_bounded_in_number_and_in_length(content: Content, clock: Clock) -> None:
    with (
        servers.serving(lambda exchange: exchange.reply(429, Retry_After="86400")) as server,
        connect(server, clock) as registry,
        pytest.raises(UnavailableError, match="429"),
    ):
        fetch_blob(registry, BLOB, content)
    assert clock.slept == [30.0, 30.0, 30.0]
    assert len(server.seen) == 4


def test_waits_grow_and_are_never_alike() -> None:
    first, second = (list(Patience(attempts=8).waits()) for _ in range(2))
    assert first != second
    assert all(0 < wait_s <= 30 for wait_s in first)
    assert first[-1] > first[0]


def test_secrets_stay_with_the_host_they_are_for(content: Content, clock: Clock) -> None:
    def storage(exchange: servers.Exchange) -> None:
        exchange.reply(200, DATA)

    with servers.serving(storage) as elsewhere:

        def front(exchange: servers.Exchange) -> None:
            if "Authorization" not in exchange.headers:
                return exchange.reply(401, WWW_Authenticate='Basic realm="x"')
            return exchange.reply(307, Location=f"{elsewhere.url}/signed?token=1")

        with servers.serving(front) as server, connect(server, clock, LOGIN) as registry:
            fetch_blob(registry, BLOB, content)
            assert "Authorization" in server.seen[-1].headers
            assert server.seen[-1].headers["X-Secret"] == "s"
        assert "Authorization" not in elsewhere.seen[0].headers
        assert "X-Secret" not in elsewhere.seen[0].headers
    assert fetched(content)


def test_an_upload_elsewhere_does_not_carry_our_login(content: Content, clock: Clock) -> None:
    content.add(DATA)
    with servers.serving(lambda exchange: exchange.reply(201)) as elsewhere:

        def front(exchange: servers.Exchange) -> None:
            if "Authorization" not in exchange.headers:
                return exchange.reply(401, WWW_Authenticate='Basic realm="x"')
            if exchange.command == "HEAD":
                return exchange.reply(404)
            return exchange.reply(202, Location=f"{elsewhere.url}/upload?id=1")

        with servers.serving(front) as server, connect(server, clock, LOGIN) as registry:
            upload_blob(registry, BLOB, content, progress=lambda *_: None)
        (put,) = elsewhere.seen
        assert put.body == DATA
        assert put.path.startswith("/upload?id=1&digest=sha256%3A")
        assert "Authorization" not in put.headers
        assert "X-Secret" not in put.headers


def test_an_upload_that_is_cut_is_finished_in_chunks(content: Content, clock: Clock) -> None:
    content.add(DATA)
    arrived = bytearray()

    def fragile(exchange: servers.Exchange) -> None:
        if exchange.command == "HEAD":
            return exchange.reply(404)
        if exchange.command == "POST":
            arrived.clear()
            return exchange.reply(202, Location="/upload/1")
        if exchange.command == "GET":
            return exchange.reply(204, Location="/upload/1", Range=f"0-{len(arrived) - 1}")
        commands = [one.command for one in exchange.seen]
        if exchange.command == "PUT" and commands.count("PUT") == 1:
            return exchange.cut()
        arrived.extend(exchange.body)
        if exchange.command == "PATCH" and commands.count("PATCH") == 1:
            return exchange.cut()  # it came, but nobody said so
        return exchange.reply(201 if exchange.command == "PUT" else 202, Location="/upload/1")

    with servers.serving(fragile) as server, connect(server, clock) as registry:
        upload_blob(registry, BLOB, content, progress=lambda *_: None)
    assert bytes(arrived) == DATA


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://x/", "http://[x", "http://x:y/", "/ü"]
)
def test_a_redirect_to_an_unsafe_place_is_refused(
    content: Content, clock: Clock, location: str
) -> None:
    with (
        servers.serving(lambda exchange: exchange.reply(302, Location=location)) as server,
        connect(server, clock) as registry,
        pytest.raises(UnavailableError, match="unsafe"),
    ):
        fetch_blob(registry, BLOB, content)


def test_redirects_in_circles_end(content: Content, clock: Clock) -> None:
    with (
        servers.serving(lambda exchange: exchange.reply(302, Location=exchange.path)) as server,
        connect(server, clock) as registry,
        pytest.raises(UnavailableError, match="in circles"),
    ):
        fetch_blob(registry, BLOB, content)


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "gopher://x"])
def test_a_token_server_in_an_unsafe_place_is_refused(
    content: Content, clock: Clock, realm: str
) -> None:
    challenge = f'Bearer realm="{realm}",service="x"'
    with (
        servers.serving(lambda exchange: exchange.reply(401, WWW_Authenticate=challenge)) as server,
        connect(server, clock, LOGIN) as registry,
        pytest.raises(PermissionDeniedError, match="unsafe"),
    ):
        fetch_blob(registry, BLOB, content)


def test_nobody_there_is_said_at_once(content: Content, clock: Clock) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{unused.getsockname()[1]}/x"
        source = source_of(parse_reference(name), folders=())
        with (
            Registry(source, patience=clock.patience()) as registry,
            pytest.raises(UnavailableError, match=r"cannot reach registry 127.*refused"),
        ):
            fetch_blob(registry, BLOB, content)
    assert clock.slept == []


def test_a_host_that_does_not_exist_is_named(content: Content, clock: Clock) -> None:
    source = source_of(parse_reference("no-such-host.invalid/x"), folders=())
    with (
        Registry(source, patience=clock.patience()) as registry,
        pytest.raises(UnavailableError, match=r"no such host: no-such-host\.invalid"),
    ):
        fetch_blob(registry, BLOB, content)


def test_a_silent_server_is_given_up_on(content: Content, clock: Clock) -> None:
    ended = threading.Event()
    source_text = "some/image"

    def silent(exchange: servers.Exchange) -> None:
        ended.wait(10)
        exchange.cut()

    with servers.serving(silent) as server:
        source = Source(
            repository=source_text, endpoints=(Endpoint(url=f"{server.url}/v2", primary=True),)
        )
        with (
            Registry(source, patience=clock.patience(2), timeout_s=0.1) as registry,
            pytest.raises(UnavailableError, match="in time"),
        ):
            fetch_blob(registry, BLOB, content)
        ended.set()


def test_a_server_that_speaks_plain_http_where_tls_is_expected_gets_a_hint(
    content: Content, clock: Clock
) -> None:
    with servers.serving(lambda exchange: exchange.reply(200)) as server:
        endpoint = Endpoint(url=f"https://{server.host}/v2", primary=True)
        source = Source(repository="x", endpoints=(endpoint,))
        with (
            Registry(source, patience=clock.patience()) as registry,
            pytest.raises(UnavailableError, match=r"does not speak TLS.*hosts\.toml"),
        ):
            fetch_blob(registry, BLOB, content)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Return a certificate for 127.0.0.1 and its key."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout"]
    subprocess.run([*command, key, "-out", certificate, *subject], check=True, capture_output=True)
    return certificate, key


def test_a_redirect_from_tls_to_plain_http_is_refused(
    content: Content, clock: Clock, tmp_path: Path
) -> None:
    with servers.serving(lambda exchange: exchange.reply(200, DATA)) as plain:

        def downgrade(exchange: servers.Exchange) -> None:
            exchange.reply(307, Location=f"{plain.url}/blob")

        with servers.serving(downgrade, tls=self_signed(tmp_path)) as server:
            endpoint = Endpoint(url=f"https://{server.host}/v2", tls=Tls(skip_verify=True))
            source = Source(repository="x", endpoints=(endpoint,))
            with (
                Registry(source, patience=clock.patience()) as registry,
                pytest.raises(UnavailableError, match="unsafe"),
            ):
                fetch_blob(registry, BLOB, content)
        assert plain.seen == []


def test_a_certificate_is_trusted_only_with_its_authority_or_when_told_to_skip(
    content: Content, clock: Clock, tmp_path: Path
) -> None:
    certificate, key = self_signed(tmp_path)
    with servers.serving(lambda exchange: exchange.reply(200, DATA), tls=(certificate, key)) as one:

        def ask(tls: Tls) -> None:
            endpoint = Endpoint(url=f"https://{one.host}/v2", primary=True, tls=tls)
            source = Source(repository="x", endpoints=(endpoint,))
            with Registry(source, patience=clock.patience()) as registry:
                fetch_blob(registry, BLOB, content)

        with pytest.raises(UnavailableError, match="is not trusted"):
            ask(Tls())
        ask(Tls(authorities=(str(certificate),)))
        content.delete(BLOB.digest)
        ask(Tls(skip_verify=True))
    assert fetched(content)


def test_a_mirror_is_asked_first_and_the_server_where_it_fails(
    content: Content, clock: Clock
) -> None:
    def mirror(exchange: servers.Exchange) -> None:
        exchange.reply(404)

    with (
        servers.serving(mirror) as first,
        servers.serving(lambda exchange: exchange.reply(200, DATA)) as second,
    ):
        source = Source(
            repository="x",
            endpoints=(
                Endpoint(url=f"{first.url}/v2", namespace="example.com"),
                Endpoint(url=f"{second.url}/v2", primary=True),
            ),
            credentials=LOGIN,
        )
        with Registry(source, patience=clock.patience()) as registry:
            fetch_blob(registry, BLOB, content)
        assert first.seen[0].path.endswith("?ns=example.com")
        assert len(second.seen) == 1
    assert fetched(content)


def serve_image(content: Content, sample: samples.Sample) -> Callable[[servers.Exchange], None]:
    def handler(exchange: servers.Exchange) -> None:
        name = exchange.path.rpartition("/")[2]
        digest = sample.record.target.digest if "sha256" not in name else name
        data = content.path(Digest(digest)).read_bytes()
        kind = sample.record.target.media_type if "/manifests/" in exchange.path else "x/y"
        exchange.reply(200, data, Content_Type=kind)

    return handler


def test_a_registry_that_sends_another_manifest_than_asked_is_not_believed(
    content: Content, clock: Clock, tmp_path: Path
) -> None:
    sample = samples.make(content)
    other = f"localhost/x@{digest_of(b'other')}"

    def lying(exchange: servers.Exchange) -> None:
        data = content.read(sample.record.target)
        exchange.reply(200, data, Content_Type=documents.OCI_MANIFEST)

    empty = samples.store(tmp_path / "empty")
    with (
        servers.serving(lying) as server,
        connect(server, clock) as registry,
        pytest.raises(CorruptError, match="sent sha256"),
    ):
        resolve(registry, parse_reference(other), empty)
    assert list(empty.walk()) == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", CorruptError),
        (b"[]", CorruptError),
        (b"{}", CorruptError),
        (b'{"a":' * 50_000, CorruptError),
        (b" " * (9 << 20), CorruptError),
    ],
    ids=["broken", "list", "empty", "deep", "long"],
)
def test_a_manifest_that_is_none_is_refused(
    content: Content, clock: Clock, body: bytes, error: type[Exception]
) -> None:
    with (
        servers.serving(lambda exchange: exchange.reply(200, body)) as server,
        connect(server, clock) as registry,
        pytest.raises(error),
    ):
        resolve(registry, parse_reference("localhost/x"), content)
    assert list(content.walk()) == []


def test_one_layer_that_fails_stops_the_others(
    content: Content, clock: Clock, tmp_path: Path
) -> None:
    layers = [samples.tar_of({str(number): bytes(200_000)}) for number in range(8)]
    sample = samples.make(content, layers=layers, media_type=documents.OCI_LAYER)
    healthy = serve_image(content, sample)
    bad = sample.manifest.layers[0].digest

    def handler(exchange: servers.Exchange) -> None:
        return exchange.reply(404) if bad in exchange.path else healthy(exchange)

    empty = samples.store(tmp_path / "empty")
    with servers.serving(handler) as server, connect(server, clock) as registry:
        found = resolve(registry, parse_reference("localhost/x"), empty)
        with pytest.raises(NotFoundError, match=bad):
            fetch_layers(registry, found, empty, parallel=1)
        assert not any("blobs" in one.path for one in server.seen[3:])


def test_the_message_of_an_error_is_passed_on_without_control_characters(
    content: Content, clock: Clock
) -> None:
    body = b'{"errors":[{"code":"X","message":"go \\u001b[31m away"}]}'
    with (
        servers.serving(lambda exchange: exchange.reply(400, body)) as server,
        connect(server, clock) as registry,
        pytest.raises(UnavailableError, match=r"400: go \[31m away$"),
    ):
        fetch_blob(registry, BLOB, content)


def test_connections_are_kept_for_the_next_request(content: Content, clock: Clock) -> None:
    sample = samples.make(content)
    with (
        servers.serving(serve_image(content, sample)) as server,
        connect(server, clock) as registry,
    ):
        for _ in range(3):
            registry.manifest("latest")
        assert len({one.client_address for one in server.seen}) == 1


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(
    content: Content, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        servers.serving(lambda exchange: exchange.reply(200, DATA)) as proxy,
        servers.serving(lambda exchange: exchange.reply(404)) as local,
    ):
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "spared.example")
        endpoint = Endpoint(url="http://registry.example/v2", primary=True)
        source = Source(repository="x", endpoints=(endpoint,))
        with Registry(source, patience=clock.patience()) as registry:
            fetch_blob(registry, BLOB, content)
        assert proxy.seen[0].path == f"http://registry.example/v2/x/blobs/{BLOB.digest}"
        assert proxy.seen[0].headers["Host"] == "registry.example"
        content.delete(BLOB.digest)
        with connect(local, clock) as registry, pytest.raises(NotFoundError):
            fetch_blob(registry, BLOB, content)
        assert len(local.seen) == 1
