"""Downloads and uploads that are cut, late or wrong; real sockets throughout."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.errors import (
    CorruptError,
    NotFoundError,
    UnavailableError,
)
from orlop.images.exchange import Patience
from orlop.images.fetch import fetch_blob
from orlop.images.hosts import Endpoint
from orlop.images.pace import Pace
from orlop.images.pull import fetch_layers, resolve
from orlop.images.registry import Registry, Source, source_of
from orlop.images.upload import upload_blob
from orlop.model import image as documents
from orlop.model.digest import Digest
from orlop.model.image import Descriptor, digest_of
from orlop.model.reference import parse_reference
from orlop.store.content import Content
from tests.integration.images import samples, servers
from tests.integration.images.downloads import BLOB, DATA, Clock, connect, fetched


def from_range(exchange: servers.Exchange) -> int:
    match = re.fullmatch(r"bytes=(\d+)-", exchange.headers.get("Range", "bytes=0-"))
    assert match is not None
    return int(match[1])


def cutting(most: int) -> Callable[[servers.Exchange], None]:
    """Return who sends *most* bytes of DATA, from where it is asked to, and cuts the connection."""

    def reply(exchange: servers.Exchange) -> None:
        start = from_range(exchange)
        headers = {"Content_Length": str(len(DATA) - start)}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
        exchange.reply(206 if start else 200, DATA[start : start + most], **headers)
        exchange.cut()

    return reply


def test_a_download_that_is_cut_goes_on_where_it_was(content: Content, clock: Clock) -> None:
    seen: list[bytes] = []
    with servers.serving(cutting(700_000)) as server, connect(server, clock) as registry:
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


def dripping(exchange: servers.Exchange, data: bytes) -> None:
    """Send *data* byte by byte, until the client goes."""
    with contextlib.suppress(OSError):
        for byte in data:
            exchange.wfile.write(bytes([byte]))
            time.sleep(0.01)


def drip_body(exchange: servers.Exchange) -> None:
    exchange.reply(200, Content_Length=str(len(DATA)))
    dripping(exchange, DATA)


def drip_head(exchange: servers.Exchange) -> None:
    dripping(exchange, b"HTTP/1.1 200 OK\r\nX-Long: " + bytes(65) * 30_000)


def drip_login(exchange: servers.Exchange) -> None:
    """Let the client wait for the rest of an answer that says that it must log in."""
    exchange.reply(401, Content_Length=str(len(DATA)), WWW_Authenticate='Basic realm="x"')
    dripping(exchange, DATA)


@pytest.mark.parametrize("drip", [drip_body, drip_head, drip_login])
def test_a_server_that_drips_is_given_up_on(
    content: Content, clock: Clock, drip: Callable[[servers.Exchange], None]
) -> None:
    with servers.serving(drip) as server:
        endpoint = Endpoint(url=f"{server.url}/v2", primary=True)
        source = Source(repository="some/image", endpoints=(endpoint,))
        pace = Pace(every_s=0.3, least_bytes=1 << 16)
        with (
            Registry(source, patience=clock.patience(2), pace=pace) as registry,
            pytest.raises(UnavailableError, match="too slowly"),
        ):
            fetch_blob(registry, BLOB, content)


def test_a_document_that_drips_is_given_up_on_however_much_came(
    content: Content, clock: Clock
) -> None:
    with servers.serving(drip_body) as server:
        endpoint = Endpoint(url=f"{server.url}/v2", primary=True)
        source = Source(repository="some/image", endpoints=(endpoint,))
        pace = Pace(every_s=0.3, least_bytes=1)
        with (
            Registry(source, patience=clock.patience(2), pace=pace) as registry,
            pytest.raises(UnavailableError, match="too slowly"),
        ):
            registry.manifest("latest")


def test_a_server_that_sends_a_byte_for_each_connection_is_given_up_on(
    content: Content, clock: Clock
) -> None:
    with (
        servers.serving(cutting(1)) as server,
        connect(server, clock) as registry,
        pytest.raises(UnavailableError),
    ):
        fetch_blob(registry, BLOB, content)
    assert len(server.seen) <= 2 * clock.patience().attempts


def serve_image(content: Content, sample: samples.Sample) -> Callable[[servers.Exchange], None]:
    def handler(exchange: servers.Exchange) -> None:
        name = exchange.path.rpartition("/")[2]
        digest = sample.record.target.digest if "sha256" not in name else name
        data = content.path(Digest(digest)).read_bytes()
        kind = sample.record.target.media_type if "/manifests/" in exchange.path else "x/y"
        exchange.reply(200, data, Content_Type=kind)

    return handler


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


def test_connections_are_kept_for_the_next_request(content: Content, clock: Clock) -> None:
    sample = samples.make(content)
    with (
        servers.serving(serve_image(content, sample)) as server,
        connect(server, clock) as registry,
    ):
        for _ in range(3):
            registry.manifest("latest")
        assert len({one.client_address for one in server.seen}) == 1


def test_tags_are_listed_over_as_many_pages_as_there_are(clock: Clock) -> None:
    def pages(exchange: servers.Exchange) -> None:
        if "last" in exchange.path:
            return exchange.reply(200, b'{"name":"x","tags":["c"]}')
        link = '</v2/some/image/tags/list?last=b>; rel="next"'
        return exchange.reply(200, b'{"name":"x","tags":["a","b"]}', Link=link)

    with servers.serving(pages) as server, connect(server, clock) as registry:
        assert list(registry.tags()) == ["a", "b", "c"]
