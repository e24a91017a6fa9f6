"""Templates: sandboxes with a Python that is forked for each run. Docker does not have them."""

import socket

from orlop.api.docker.parse_container import parse_create
from orlop.api.docker.routing import Call
from orlop.api.docker.sandboxes import held, terms_of
from orlop.api.docker.wire import Create, Wire, read_json
from orlop.api.messages import Hijack, Reply
from orlop.engine.templates.request import Wanted


class Template(Wire, frozen=True, kw_only=True):
    python: str = "python3"
    imports: tuple[str, ...] = ()
    setup: str = ""


class OpenTemplate(Create, frozen=True, kw_only=True):
    template: Template = Template()


async def open_(call: Call) -> Reply:
    """POST /templates: like POST /sandboxes; the container's command is the template's own."""
    body = await read_json(call.request, OpenTemplate)
    options = parse_create(body, platform="")
    given = body.template
    wanted = Wanted(python=given.python, imports=given.imports, setup=given.setup)
    name = call.query.text("name") or None
    template_id = await call.engine.templates.open(options, wanted, terms_of(call), name=name)
    return held(call, template_id)


async def runs(call: Call) -> Reply:
    """POST /templates/{name}/runs: a connection for runs, once the template is ready.

    The client sends {"timeout_s"} with four descriptors: stdin, stdout, stderr, and a file
    with the code; the answer is {"exit_code", "timed_out", "usage", "oom_killed"}, or {"error"}.
    If the client sends anything meanwhile, or closes the connection, the run is killed.
    """
    template = await call.engine.templates.find(call.name)

    async def take(client: socket.socket, pending: bytes) -> None:
        del pending
        await call.engine.templates.converse(template, client)

    return Hijack(take)
