"""OpenTelemetry: what a collector receives. The collector is a small server that reads OTLP."""

import asyncio
import contextlib
import gzip
import http.client
import http.server
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

import orlop
from tests.integration.telemetry.conftest import IMAGE, Watched, free_port

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Keeps the spans that it is sent."""

    def __init__(self, port: int) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.is_refusing = False
        self.refused = 0
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if collector.is_refusing:
                    collector.refused += 1
                    self.send_error(400)
                    return
                collector.take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            self.services.add(names["service.name"])
            for scope in resource.scope_spans:
                self.spans += scope.spans

    @contextlib.contextmanager
    def running(self) -> Iterator["Collector"]:
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()


@pytest.fixture
def exporting(
    request: pytest.FixtureRequest, tmp_path: Path, busybox_archive: Path
) -> Iterator[tuple[Watched, int]]:
    """An engine that exports spans to a port at which nobody listens yet."""
    port = free_port()
    engine = Watched(
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
        OTEL_EXPORTER_OTLP_TIMEOUT=request.param,  # seconds for one export, with its retries
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    try:
        engine.start()
        engine.cli.out("load", "-i", str(busybox_archive))
        yield engine, port
    finally:
        engine.close()


def await_(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def post(engine: Watched, path: str, body: object = None) -> Any:
    """Make a request as a client does that has a trace."""
    connection = http.client.HTTPConnection("engine", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(str(engine.socket))
    with contextlib.closing(connection):
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse().read()
    return json.loads(answer) if answer else None


@pytest.mark.parametrize("exporting", ["60"], indirect=True)
def test_a_start_is_a_tree_of_spans_in_the_trace_of_its_request(
    exporting: tuple[Watched, int],
) -> None:
    engine, port = exporting
    with Collector(port).running() as collector:
        created = post(engine, "/containers/create", {"Image": IMAGE, "Cmd": ["true"]})
        post(engine, f"/containers/{created['Id']}/start")
        await_(lambda: any(s.name == "execve" for s in list(collector.spans)), "no spans")
        ours = [span for span in list(collector.spans) if span.trace_id.hex() == TRACE]
    assert collector.services == {"orlop"}
    by_id = {span.span_id: span for span in ours}
    by_name = {span.name: span for span in ours}
    assert by_name["orlop create"].parent_span_id.hex() == PARENT
    assert by_name["orlop start"].parent_span_id.hex() == PARENT

    def way(name: str) -> list[str]:
        names, span = [], by_name[name]
        while span is not None:
            names.append(span.name)
            span = by_id.get(span.parent_span_id)
        return names

    assert way("execve") == ["execve", "child", "ask_shim", "orlop start"]
    assert way("resolve") == ["resolve", "orlop create"]
    attributes = {a.key: a.value.string_value for a in by_name["execve"].attributes}
    assert attributes == {"container.id": created["Id"], "orlop.room": "child"}
    now_ns = time.time_ns()
    for span in ours:
        outer = by_id.get(span.parent_span_id)
        assert now_ns - 300 * 10**9 < span.start_time_unix_nano <= span.end_time_unix_nano
        if outer is not None:
            assert outer.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= outer.end_time_unix_nano


@pytest.mark.parametrize("exporting", ["1"], indirect=True)
def test_a_collector_that_takes_nothing_costs_one_line_of_the_log(
    exporting: tuple[Watched, int],
) -> None:
    engine, port = exporting
    engine.cli.out("run", "--rm", IMAGE, "true")
    await_(lambda: "spans are lost" in engine.log(), "nothing is told")
    with Collector(port).running() as collector:
        collector.is_refusing = True

        def run_until(is_so: Callable[[], bool]) -> bool:
            engine.cli.out("run", "--rm", IMAGE, "true")
            return is_so()

        await_(lambda: run_until(lambda: collector.refused >= 3), "nothing comes")
        assert engine.log().count("spans are lost") == 1
        collector.is_refusing = False
        await_(lambda: run_until(lambda: bool(collector.spans)), "no spans")
        engine.stop()
    assert "Traceback" not in engine.log()


@pytest.mark.parametrize("exporting", ["60"], indirect=True)
def test_what_a_program_asks_for_is_in_the_trace_that_it_is_in(
    exporting: tuple[Watched, int],
) -> None:
    engine, port = exporting
    options: dict[str, Any] = {"image": IMAGE, "engine": engine.url}

    async def run_asynchronously() -> None:
        async with orlop.AsyncSandbox(**options) as box:
            await box.run(["true"])

    context = trace.SpanContext(
        int(TRACE, 16), int(PARENT, 16), is_remote=False, trace_flags=trace.TraceFlags(1)
    )
    with Collector(port).running() as collector:
        with trace.use_span(trace.NonRecordingSpan(context)):
            with orlop.Sandbox(**options) as box:  # by a socket with descriptors
                box.run(["true"])
            with orlop.Sandbox(**options, name="usual") as box:  # over HTTP
                box.run(["true"])
            asyncio.run(run_asynchronously())
        with orlop.Sandbox(**options):
            pass
        others = {"orlop spawn": 3, "orlop exec": 3, "orlop create": 1, "orlop start": 1}

        def count() -> Counter[str]:
            return Counter(span.name for span in list(collector.spans) if span.name in others)

        await_(lambda: count() == others, f"{count()} in place of {others}")
        whole = [span for span in list(collector.spans) if span.name in others]
    inside = [span for span in whole if span.trace_id.hex() == TRACE]
    assert Counter(span.name for span in inside) == Counter(others) - Counter(["orlop spawn"])
    assert {span.parent_span_id.hex() for span in inside} == {PARENT}
    (alone,) = [span for span in whole if span not in inside]
    assert not alone.parent_span_id
