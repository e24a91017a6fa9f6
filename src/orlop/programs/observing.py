"""Who watches an engine: Prometheus, on a TCP port of its own; a collector of spans."""

import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Iterator

from orlop.api.connections import Limits
from orlop.api.http import Server
from orlop.api.metrics import MetricsAPI
from orlop.engine.engine import Engine
from orlop.engine.settings import Settings
from orlop.errors import InvalidArgumentError, UnavailableError
from orlop.model.ports import parse_ports

_LIMITS = Limits(most=64, most_of_one=64)  # whoever asks is on this machine, at one address


@contextlib.asynccontextmanager
async def observed(engine: Engine, settings: Settings) -> AsyncIterator[None]:
    """Let those watch who are configured."""
    with _spans_exported(engine):
        async with _metrics_served(engine, settings.metrics):
            yield


@contextlib.contextmanager
def _spans_exported(engine: Engine) -> Iterator[None]:
    if not any(name.startswith("OTEL_") for name in os.environ):
        yield
        return
    from orlop.engine.telemetry import spans

    if not spans.is_configured(os.environ):
        yield
        return
    export = engine.telemetry.spans = spans.SpanExport()
    engine.telemetry.queues["spans"] = lambda: export.waiting
    export.start()
    try:
        yield
    finally:
        export.close()


@contextlib.asynccontextmanager
async def _metrics_served(engine: Engine, address: str) -> AsyncIterator[None]:
    """Serve GET /metrics at *address*, HOST:PORT; nothing where it is empty."""
    if not address:
        yield
        return
    server = Server(MetricsAPI(engine), limits=_LIMITS)
    with _listener(address) as listener:
        await server.listen(listener)
        try:
            yield
        finally:
            await server.close(grace_s=0)


def _listener(address: str) -> socket.socket:
    """Return a socket that listens; only on a loopback address, for nobody is asked who he is."""
    host, _, port = address.rpartition(":")
    ip = None
    with contextlib.suppress(ValueError):
        ip = ipaddress.ip_address(host.strip("[]"))
    ports = parse_ports(port)
    if ip is None or not ip.is_loopback or len(ports) != 1:
        raise InvalidArgumentError(
            f"metrics cannot be served at {address[:100]!r}",
            hint="ORLOP_METRICS is a loopback address and a port, such as 127.0.0.1:9464",
        )
    listener = socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(ip), ports[0]))
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"cannot serve metrics at {address}: {(error.strerror or str(error)).lower()}"
        ) from error
    return listener
