"""The Docker Engine API as one handler: version, route, error, log line."""

import asyncio
import logging
import time

from orlop import __version__
from orlop.api.docker.errors import render_error
from orlop.api.docker.routes import ROUTES
from orlop.api.docker.routing import MAX_VERSION, Call, Route, Router, split_version, version_text
from orlop.api.failures import translate_os_error
from orlop.api.messages import Reply, Request, Response
from orlop.engine.engine import Engine
from orlop.engine.telemetry.asked import NOTHING, Asked, asked
from orlop.errors import NotFoundError, OrlopError

log = logging.getLogger(__name__)

#: On every answer; clients negotiate from the first two.
HEADERS = {
    "Api-Version": version_text(MAX_VERSION),
    "Ostype": "linux",
    "Docker-Experimental": "false",
    "Server": f"Orlop/{__version__} (linux)",
}


class DockerAPI:
    """Answers requests with what *engine* does."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._router = Router(ROUTES)
        self.changes: set[asyncio.Future[Reply]] = set()  # under way, whoever still listens

    async def __call__(self, request: Request) -> Reply:
        """Return the answer; errors become answers too."""
        began = time.monotonic()
        try:
            reply = await self._answer(request)
        except OrlopError as error:
            reply = render_error(error)
        except ConnectionResetError:
            raise
        except OSError as error:
            log.exception("request failed", extra={"path": request.path})
            reply = render_error(translate_os_error(error))
        except Exception:
            log.exception("request failed", extra={"path": request.path})
            reply = Response.message(500, "internal error in the engine (see its log)")
        _log(request, reply, time.monotonic() - began)
        return reply

    async def _answer(self, request: Request) -> Reply:
        version, path = split_version(request.path)
        match = self._router.find(request.method, path)
        if match is None:
            if self._router.knows(path):
                return Response.message(405, f"method {request.method} is not allowed for {path}")
            raise NotFoundError(f"page not found: {request.method} {path}")
        call = Call(self._engine, request, match.args, version)
        return await self._run(match.route, call)

    async def _run(self, route: Route, call: Call) -> Reply:
        _note_asked(call)
        if not route.completes:
            return await route.endpoint(call)
        # A change that has begun is finished (or undone) by the engine, whoever still listens.
        change = asyncio.ensure_future(route.endpoint(call))
        self.changes.add(change)
        change.add_done_callback(self._ended)
        try:
            return await asyncio.shield(change)
        finally:
            del change  # its error names this frame: a cycle that would hold the whole request

    def _ended(self, change: asyncio.Future[Reply]) -> None:
        self.changes.discard(change)
        if not change.cancelled():
            change.exception()  # told to the client, or to nobody if it has gone


def _note_asked(call: Call) -> None:
    """Have all that is done for the request know what it asks to be told: ?timeline=1."""
    parent = call.request.headers.get("traceparent", "")
    timeline = call.query.flag("timeline")
    if parent or timeline or asked.get() is not NOTHING:  # what came before it on the connection
        asked.set(Asked(timeline=timeline, traceparent=parent))


def _log(request: Request, reply: Reply, seconds: float) -> None:
    if not log.isEnabledFor(logging.DEBUG):
        return
    status = reply.status if isinstance(reply, Response) else 200
    uid = request.peer.uid if request.peer else None
    log.debug("%s %s %d %.1f ms uid=%s", request.method, request.path, status, seconds * 1000, uid)
