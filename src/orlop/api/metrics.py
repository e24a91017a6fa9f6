"""GET /metrics for Prometheus, on the engine's socket and, if configured, on a TCP port."""

from orlop.api.messages import Reply, Request, Response
from orlop.engine.engine import Engine

_PLAIN = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS = "application/openmetrics-text"
_OPENMETRICS_1 = f"{_OPENMETRICS}; version=1.0.0; charset=utf-8"


async def metrics(engine: Engine, request: Request) -> Response:
    """Answer with the metrics, in the format that the request accepts."""
    openmetrics = _OPENMETRICS in request.headers.get("accept", "")
    text = await engine.metrics(openmetrics=openmetrics)
    return Response(200, text.encode(), _OPENMETRICS_1 if openmetrics else _PLAIN)


class MetricsAPI:
    """Serves the metrics, and nothing else, on a port."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, request: Request) -> Reply:
        if request.path != "/metrics":
            return Response(404, b"there is only /metrics here\n", "text/plain")
        if request.method not in ("GET", "HEAD"):
            return Response(405, b"only GET\n", "text/plain")
        return await metrics(self._engine, request)
