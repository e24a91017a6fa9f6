"""Containers: create, list, look at, change, remove."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from orlop.api.docker.answers import NO_CONTENT, NOT_MODIFIED, filters_of, json, json_list
from orlop.api.docker.images import name_of
from orlop.api.docker.lines import cancel, error_line, line
from orlop.api.docker.parse_container import parse_create, parse_restart
from orlop.api.docker.parse_resources import parse_resources
from orlop.api.docker.render_container import Surroundings, render_container, render_summary
from orlop.api.docker.render_image import render_pruned
from orlop.api.docker.routing import Call
from orlop.api.docker.wire import Create, Update, read_json
from orlop.api.messages import Reply, Stream
from orlop.engine.answers import ContainerSize, Finished
from orlop.engine.requests import CommitRequest, UpdateRequest
from orlop.errors import InvalidArgumentError, NotFoundError, OrlopError
from orlop.model.container import Container
from orlop.model.network import Network

_CONDITIONS = ("not-running", "next-exit", "removed")
_CHANGE_KINDS = {"C": 0, "A": 1, "D": 2}


async def list_containers(call: Call) -> Reply:
    """GET /containers/json."""
    query = call.query
    limit = max(0, query.integer("limit") or 0)
    listed = call.engine.containers.list(
        all=query.flag("all") or limit > 0, filters=filters_of(call.request), limit=limit
    )
    found: list[tuple[Container, ContainerSize | None]] = [(one, None) for one in listed]
    if query.flag("size"):
        found = list(await call.engine.containers.sizes(listed))
    volumes = call.engine.settings.volumes
    networks = _networks(call) if listed else {}
    return json_list(
        render_summary(container, volumes=volumes, networks=networks, size=size)
        for container, size in found
    )


def _networks(call: Call) -> Mapping[str, Network]:
    return {network.id: network for network in call.engine.networks.list()}


async def create(call: Call) -> Reply:
    """POST /containers/create."""
    body = await read_json(call.request, Create)
    options = parse_create(body, platform=call.query.text("platform"))
    given = call.query.text("name")
    name = given.removeprefix("/") if given else None
    created = await call.engine.containers.create(options, name=name)
    return json({"Id": created.id, "Warnings": created.warnings}, status=201)


async def inspect(call: Call) -> Reply:
    """GET /containers/{name}/json."""
    container = await call.engine.containers.settled(call.name)
    size = None
    if call.query.flag("size"):
        size = await call.engine.containers.size(container.id)
    return json(
        render_container(
            container,
            volumes=call.engine.settings.volumes,
            networks=_networks(call),
            around=Surroundings(
                files=call.engine.containers.files(container),
                execs=call.engine.execs.of(container.id),
                links=call.engine.containers.linked(container),
            ),
            size=size,
        )
    )


async def start(call: Call) -> Reply:
    """POST /containers/{name}/start. 304 if it runs already."""
    detach_keys = call.query.text("detachKeys")
    started = await call.engine.containers.start(call.name, detach_keys=detach_keys)
    return NO_CONTENT if started else NOT_MODIFIED


async def stop(call: Call) -> Reply:
    """POST /containers/{name}/stop. 304 if there is nothing to stop."""
    stopped = await call.engine.containers.stop(
        call.name, timeout_s=call.query.integer("t"), signal=call.query.text("signal") or None
    )
    return NO_CONTENT if stopped else NOT_MODIFIED


async def restart(call: Call) -> Reply:
    """POST /containers/{name}/restart."""
    await call.engine.containers.restart(
        call.name, timeout_s=call.query.integer("t"), signal=call.query.text("signal") or None
    )
    return NO_CONTENT


async def kill(call: Call) -> Reply:
    """POST /containers/{name}/kill."""
    await call.engine.containers.kill(call.name, signal=call.query.text("signal") or "SIGKILL")
    return NO_CONTENT


async def pause(call: Call) -> Reply:
    """POST /containers/{name}/pause."""
    await call.engine.containers.pause(call.name)
    return NO_CONTENT


async def unpause(call: Call) -> Reply:
    """POST /containers/{name}/unpause."""
    await call.engine.containers.unpause(call.name)
    return NO_CONTENT


async def rename(call: Call) -> Reply:
    """POST /containers/{name}/rename."""
    name = call.query.text("name").removeprefix("/")
    if not name:
        raise InvalidArgumentError("the new name is missing")
    await call.engine.containers.rename(call.name, name)
    return NO_CONTENT


async def update(call: Call) -> Reply:
    """POST /containers/{name}/update."""
    body = await read_json(call.request, Update)
    restart = body.restart_policy
    request = UpdateRequest(
        resources=parse_resources(body),
        restart=parse_restart(restart) if restart and restart.name else None,
    )
    warnings = await call.engine.containers.update(call.name, request)
    return json({"Warnings": list(warnings)})


async def remove(call: Call) -> Reply:
    """DELETE /containers/{name}."""
    if call.query.flag("link"):
        return await _unlink(call, call.name)
    await call.engine.containers.remove(
        call.name, force=call.query.flag("force"), volumes=call.query.flag("v")
    )
    return NO_CONTENT


async def remove_link(call: Call) -> Reply:
    """DELETE /containers/{name}/{alias}, with "link": a container's link to another."""
    ref = f"{call.name}/{call.args['alias']}"
    if not call.query.flag("link"):
        raise NotFoundError(f"No such container: {ref}")
    return await _unlink(call, ref)


async def _unlink(call: Call, ref: str) -> Reply:
    await call.engine.containers.unlink(ref)
    return NO_CONTENT


async def prune(call: Call) -> Reply:
    """POST /containers/prune."""
    pruned = await call.engine.containers.prune(filters_of(call.request))
    return json(render_pruned(pruned, "ContainersDeleted"))


async def wait(call: Call) -> Reply:
    """POST /containers/{name}/wait.

    The headers go out as soon as the wait is in force: `docker run` starts the
    container only when it has seen them.
    """
    condition = call.query.text("condition") or "not-running"
    if condition not in _CONDITIONS:
        raise InvalidArgumentError(
            f"invalid condition {condition!r}", hint="expected one of " + ", ".join(_CONDITIONS)
        )
    container = call.engine.containers.get(call.name)
    waiting = asyncio.ensure_future(call.engine.containers.wait(container.id, condition=condition))
    await asyncio.sleep(0)  # it has begun, so it cannot miss what happens from here on
    return Stream(_finished(waiting, with_error=condition != "removed"))


async def _finished(waiting: asyncio.Future[Finished], *, with_error: bool) -> AsyncIterator[bytes]:
    try:
        finished = await waiting
        answer: dict[str, object] = {"StatusCode": finished.exit_code}
        if finished.error and with_error:  # a container that is gone has told it by its start
            answer["Error"] = {"Message": finished.error}
        yield line(answer)
    except OrlopError as error:
        yield error_line(error)
    finally:
        await cancel(waiting)


async def top(call: Call) -> Reply:
    """GET /containers/{name}/top."""
    processes = await call.engine.containers.top(
        call.name, ps_args=call.query.text("ps_args") or "-ef"
    )
    return json({"Titles": processes.titles, "Processes": processes.rows})


async def changes(call: Call) -> Reply:
    """GET /containers/{name}/changes."""
    changed = await call.engine.containers.changes(call.name)
    listed = [{"Path": change.path, "Kind": _CHANGE_KINDS[change.kind]} for change in changed]
    return json(listed or None)


async def commit(call: Call) -> Reply:
    """POST /commit. The body, a container configuration, is not needed: changes say it all."""
    query = call.query
    if not query.text("container"):
        raise InvalidArgumentError("parameter container is missing")
    request = CommitRequest(
        author=query.text("author"),
        message=query.text("comment"),
        changes=tuple(query.texts("changes")),
        pause=query.flag("pause", default=True),
    )
    reference = name_of(query.text("repo"), query.text("tag"))
    digest = await call.engine.images.commit(query.text("container"), reference, request)
    return json({"Id": digest}, status=201)
