"""Log drivers over TLS, against a listener that checks certificates as a log service does."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from queue import Queue

import pytest

from orlop.logdrivers.driver import Message
from orlop.logdrivers.fluentd import Fluentd
from orlop.logdrivers.syslog import Syslog
from orlop.logdrivers.wire import About
from tests.authority import Authority, Issued

ABOUT: About = {"id": "0" * 64, "name": "web", "image": "i", "tag": "abc", "attributes": {}}
OUT = Message("stdout", 1_700_000_000_123_456_789, b"hello")
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@contextlib.contextmanager
def listening(own: Issued, *, clients: Authority | None = None) -> Iterator[tuple[int, Queue[str]]]:
    """Yield a port, and what each connection brings: its data, or why it was refused.

    With *clients*, only clients that have a certificate of theirs are let in.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    if clients is not None:
        context.load_verify_locations(clients.own.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    told: Queue[str] = Queue()

    def take(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_S)
            told.put(_received(context, connection))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=take, args=(server,))
        thread.start()
        try:
            yield server.getsockname()[1], told
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _received(context: ssl.SSLContext, connection: socket.socket) -> str:
    data = b""
    try:
        with context.wrap_socket(connection, server_side=True) as secured:
            while block := secured.recv(1 << 16):
                data += block
    except OSError as error:
        return f"refused: {error}"
    return data.decode(errors="replace")


def delivered(driver: Syslog | Fluentd) -> None:
    with contextlib.closing(driver):
        driver.open()
        driver.send(OUT)


def syslog(port: int, **options: object) -> Syslog:
    """A driver; ca_cert="…" is the option syslog-tls-ca-cert, and so on."""
    given = {f"syslog-tls-{name.replace('_', '-')}": str(value) for name, value in options.items()}
    return Syslog({"syslog-address": f"tcp+tls://127.0.0.1:{port}", **given}, ABOUT)


def test_a_service_with_a_certificate_of_the_authority_gets_messages(authority: Authority) -> None:
    with listening(authority.issue("127.0.0.1")) as (port, told):
        delivered(syslog(port, ca_cert=authority.own.certificate))
        assert re.fullmatch(r"<30>.* abc\[\d+\]: hello\n", told.get(timeout=PATIENCE_S))


def test_messages_in_the_format_of_rfc_5424_are_counted(authority: Authority) -> None:
    with listening(authority.issue("127.0.0.1")) as (port, told):
        address = {"syslog-address": f"tcp+tls://127.0.0.1:{port}", "syslog-format": "rfc5424"}
        ca = {"syslog-tls-ca-cert": str(authority.own.certificate)}
        delivered(Syslog({**address, **ca}, ABOUT))
        length, _, message = told.get(timeout=PATIENCE_S).partition(" ")
    assert message.startswith("<30>1 ")
    assert int(length) == len(message)


@pytest.mark.parametrize("name", ["127.0.0.2", "log.example"])
def test_a_service_with_the_certificate_of_another_name_gets_nothing(
    authority: Authority, name: str
) -> None:
    with listening(authority.issue(name)) as (port, told):
        with pytest.raises(OSError, match=r"not valid for '127\.0\.0\.1'"):
            syslog(port, ca_cert=authority.own.certificate).open()
        assert told.get(timeout=PATIENCE_S).startswith("refused: ")


def test_a_service_with_a_certificate_of_another_authority_gets_nothing(
    authority: Authority, stranger: Authority
) -> None:
    with listening(stranger.issue("127.0.0.1")) as (port, told):
        with pytest.raises(OSError, match="certificate verify failed"):
            syslog(port, ca_cert=authority.own.certificate).open()
        assert told.get(timeout=PATIENCE_S).startswith("refused: ")


def test_a_certificate_is_not_checked_if_that_is_asked_for(stranger: Authority) -> None:
    with listening(stranger.issue("log.example")) as (port, told):
        delivered(syslog(port, skip_verify="true"))
        assert told.get(timeout=PATIENCE_S).endswith(": hello\n")


def test_a_service_that_asks_who_we_are_is_shown_our_certificate(authority: Authority) -> None:
    ours = authority.issue("client")
    with listening(authority.issue("127.0.0.1"), clients=authority) as (port, told):
        known = {"cert": ours.certificate, "key": ours.key}
        delivered(syslog(port, ca_cert=authority.own.certificate, **known))
        assert told.get(timeout=PATIENCE_S).endswith(": hello\n")


@pytest.mark.parametrize("shown", [False, True])
def test_a_service_that_does_not_know_us_gets_nothing(
    authority: Authority, stranger: Authority, *, shown: bool
) -> None:
    theirs = stranger.issue("client")
    known = {"cert": theirs.certificate, "key": theirs.key} if shown else {}
    with listening(authority.issue("127.0.0.1"), clients=authority) as (port, told):
        with contextlib.suppress(OSError):  # in TLS 1.3 a client may not have heard of it yet
            delivered(syslog(port, ca_cert=authority.own.certificate, **known))
        assert told.get(timeout=PATIENCE_S).startswith("refused: ")


def test_a_key_with_a_password_is_an_error_and_no_question(authority: Authority) -> None:
    ours = authority.issue("secret", password="secret")
    with listening(authority.issue("127.0.0.1")) as (port, _):
        driver = syslog(port, skip_verify="true", cert=ours.certificate, key=ours.key)
        with pytest.raises(OSError, match="password"):
            driver.open()


def test_fluentd_is_trusted_if_the_machine_trusts_its_authority(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(authority.issue("127.0.0.1")) as (port, told):
        driver = Fluentd({"fluentd-address": f"tls://127.0.0.1:{port}"}, ABOUT)
        with pytest.raises(OSError, match="certificate verify failed"):
            driver.open()
        assert told.get(timeout=PATIENCE_S).startswith("refused: ")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.own.certificate))
        delivered(driver)
        assert "hello" in told.get(timeout=PATIENCE_S)
