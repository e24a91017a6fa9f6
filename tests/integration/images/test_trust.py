"""Whom a client trusts, and what it tells to whom; real sockets throughout."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orlop.errors import (
    CorruptError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from orlop.images.auth import Credentials
from orlop.images.fetch import fetch_blob
from orlop.images.hosts import Endpoint
from orlop.images.pull import resolve
from orlop.images.registry import Registry, Source
from orlop.images.transport import Tls
from orlop.images.upload import upload_blob
from orlop.model import image as documents
from orlop.model.image import digest_of
from orlop.model.reference import parse_reference
from orlop.store.content import Content
from tests.authority import Authority
from tests.integration.images import samples, servers
from tests.integration.images.downloads import BLOB, DATA, LOGIN, Clock, connect, fetched


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


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
def test_a_place_that_we_were_sent_to_cannot_ask_for_our_credentials(
    content: Content, clock: Clock, scheme: str
) -> None:
    with servers.serving(lambda exchange: exchange.reply(200, b'{"token":"t"}')) as thief:
        challenge = f'{scheme} realm="{thief.url}/token",service="x"'

        def storage(exchange: servers.Exchange) -> None:
            exchange.reply(401, WWW_Authenticate=challenge)

        with servers.serving(storage) as elsewhere:

            def front(exchange: servers.Exchange) -> None:
                exchange.reply(307, Location=f"{elsewhere.url}/blob")

            with (
                servers.serving(front) as server,
                connect(server, clock, LOGIN) as registry,
                pytest.raises(PermissionDeniedError),
            ):
                fetch_blob(registry, BLOB, content)
            seen = [*server.seen, *elsewhere.seen, *thief.seen]
    assert thief.seen == []
    assert not any("Authorization" in exchange.headers for exchange in seen)


@contextmanager
def _redirected_tokens() -> Iterator[tuple[servers.Server, servers.Server, servers.Server]]:
    """Give a registry, its token server, and whom that one sends everybody to."""
    with servers.serving(lambda exchange: exchange.reply(200, b'{"token":"t"}')) as thief:

        def tokens(exchange: servers.Exchange) -> None:
            exchange.reply(307, Location=f"{thief.url}/token")

        with servers.serving(tokens) as token_server:
            challenge = f'Bearer realm="{token_server.url}/token",service="x"'
            with servers.serving(lambda e: e.reply(401, WWW_Authenticate=challenge)) as server:
                yield server, token_server, thief


def test_a_refresh_token_follows_no_redirect_to_another_host(
    content: Content, clock: Clock
) -> None:
    login = Credentials(identity_token="refresh me")
    with _redirected_tokens() as (server, token_server, thief):
        with (
            connect(server, clock, login) as registry,
            pytest.raises(UnavailableError, match="redirects elsewhere"),
        ):
            fetch_blob(registry, BLOB, content)
        assert b"refresh+me" in token_server.seen[0].body
    assert thief.seen == []


def test_a_password_follows_no_redirect_of_the_token_server(content: Content, clock: Clock) -> None:
    with _redirected_tokens() as (server, token_server, thief):
        with connect(server, clock, LOGIN) as registry, pytest.raises(PermissionDeniedError):
            fetch_blob(registry, BLOB, content)
        assert "Authorization" in token_server.seen[0].headers
        assert "Authorization" not in thief.seen[0].headers


def test_our_certificate_is_not_shown_where_a_redirect_leads(
    content: Content, clock: Clock, tmp_path: Path
) -> None:
    pair = self_signed(tmp_path)
    shown: list[bool] = []

    def storage(exchange: servers.Exchange) -> None:
        shown.append(exchange.shows_certificate)
        exchange.reply(200, DATA)

    with servers.serving(storage, tls=pair, ask_certificate=True) as elsewhere:

        def front(exchange: servers.Exchange) -> None:
            shown.append(exchange.shows_certificate)
            exchange.reply(307, Location=f"{elsewhere.url.replace('http', 'https', 1)}/blob")

        with servers.serving(front, tls=pair, ask_certificate=True) as server:
            tls = Tls(authorities=(str(pair[0]),), client=((str(pair[0]), str(pair[1])),))
            endpoint = Endpoint(url=f"https://{server.host}/v2", primary=True, tls=tls)
            source = Source(repository="x", endpoints=(endpoint,))
            with Registry(source, patience=clock.patience()) as registry:
                fetch_blob(registry, BLOB, content)
    assert shown == [True, False]


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


@pytest.mark.parametrize("password", ["", "secret"])
def test_a_private_authority_is_trusted_and_a_key_with_a_password_is_refused(
    content: Content, clock: Clock, tmp_path: Path, password: str
) -> None:
    """The authority's certificate says no key usage, as openssl makes it."""
    authority = Authority(tmp_path)
    ours = authority.issue("client", password=password)
    tls = Tls(
        authorities=(str(authority.own.certificate),),
        client=((str(ours.certificate), str(ours.key)),),
    )
    pair = authority.issue("127.0.0.1")
    with servers.serving(lambda exchange: exchange.reply(200, DATA), tls=pair) as one:
        endpoint = Endpoint(url=f"https://{one.host}/v2", primary=True, tls=tls)
        source = Source(repository="x", endpoints=(endpoint,))
        with Registry(source, patience=clock.patience()) as registry:
            if password:
                with pytest.raises(InvalidArgumentError, match=r"client\.pem: .*has a password"):
                    fetch_blob(registry, BLOB, content)
            else:
                fetch_blob(registry, BLOB, content)
    assert fetched(content) or password


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


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_certificate_file_that_cannot_be_used_is_named(
    content: Content, clock: Clock, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "ca.crt"
    if text is not None:
        path.write_text(text)
    endpoint = Endpoint(url="https://127.0.0.1:1/v2", tls=Tls(authorities=(str(path),)))
    source = Source(repository="x", endpoints=(endpoint,))
    with (
        Registry(source, patience=clock.patience()) as registry,
        pytest.raises(InvalidArgumentError, match=str(path)),
    ):
        fetch_blob(registry, BLOB, content)
    assert clock.slept == []
