"""Images: pull, push, list, look at, tag, remove, save, load, import."""

from orlop.api.docker.answers import credentials_of, filters_of, json, json_list, stream_of
from orlop.api.docker.lines import Lines
from orlop.api.docker.render_image import (
    render_deleted,
    render_distribution,
    render_history,
    render_image,
    render_pruned,
    render_pulled,
    render_summary,
)
from orlop.api.docker.routing import Call
from orlop.api.messages import Reply, Response
from orlop.errors import InvalidArgumentError, NotFoundError, UnsupportedError
from orlop.model.reference import Reference, new_name, parse_reference


async def list_images(call: Call) -> Reply:
    """GET /images/json."""
    listed = await call.engine.images.list(
        all=call.query.flag("all"), filters=filters_of(call.request)
    )
    return json_list(render_summary(summary) for summary in listed)


async def inspect(call: Call) -> Reply:
    """GET /images/{name}/json."""
    image = call.engine.images.resolve(call.name)
    return json(render_image(image, driver=call.engine.system.driver))


async def history(call: Call) -> Reply:
    """GET /images/{name}/history."""
    return json_list(render_history(step) for step in call.engine.images.history(call.name))


async def create(call: Call) -> Reply:
    """POST /images/create: pull (fromImage), or import a file system (fromSrc)."""
    if call.query.text("fromSrc"):
        return await _import(call)
    if not call.query.text("fromImage"):
        raise InvalidArgumentError("parameter fromImage is missing")
    return await _pull(call)


async def _pull(call: Call) -> Reply:
    """Pull one image; with no tag at all, all of the repository."""
    text = _with_tag(call.query.text("fromImage"), call.query.text("tag"))
    given = parse_reference(text, default_tag=None)
    credentials = credentials_of(call.request)
    images = call.engine.images
    lines = Lines()

    async def work() -> None:
        references = [given]
        if not (given.tag or given.digest):
            tags = await images.tags(given, credentials=credentials)
            references = [given.with_tag(tag) for tag in tags]
        for reference in references:
            before = _id(call, reference)
            image = await images.pull(
                reference,
                platform=call.query.text("platform") or None,
                credentials=credentials,
                progress=lines.progress,
            )
            for text in render_pulled(image, reference, is_new=image.id != before):
                lines.emit({"status": text})

    return await lines.reply(work())


def _id(call: Call, reference: Reference) -> str:
    try:
        return call.engine.images.resolve(reference).id
    except NotFoundError:
        return ""


async def _import(call: Call) -> Reply:
    query = call.query
    if query.text("fromSrc") != "-":
        raise UnsupportedError(
            "importing from a URL is not supported", hint="fetch it, and import the file"
        )
    reference = name_of(query.text("repo"), query.text("tag"))
    lines = Lines()

    async def work() -> None:
        image = await call.engine.images.import_(
            call.request.body,
            reference,
            changes=query.texts("changes"),
            message=query.text("message"),
            platform=query.text("platform") or None,
        )
        lines.emit({"status": image})

    return await lines.reply(work())


async def push(call: Call) -> Reply:
    """POST /images/{name}/push."""
    reference = parse_reference(_with_tag(call.name, call.query.text("tag")))
    credentials = credentials_of(call.request)
    lines = Lines()

    async def work() -> None:
        lines.emit({"status": f"The push refers to repository [{reference.name}]"})
        descriptor = await call.engine.images.push(
            reference, credentials=credentials, progress=lines.progress
        )
        tag = call.query.text("tag") or "latest"
        digest, size = descriptor.digest, descriptor.size
        lines.emit({"status": f"{tag}: digest: {digest} size: {size}"})
        lines.emit({"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}})

    return await lines.reply(work())


async def tag(call: Call) -> Reply:
    """POST /images/{name}/tag."""
    repository = call.query.text("repo")
    if not repository:
        raise InvalidArgumentError("parameter repo is missing")
    await call.engine.images.tag(call.name, new_name(_with_tag(repository, call.query.text("tag"))))
    return Response(201)


async def remove(call: Call) -> Reply:
    """DELETE /images/{name}."""
    removed = await call.engine.images.remove(
        call.name, force=call.query.flag("force"), prune=not call.query.flag("noprune")
    )
    return json_list(render_deleted(one) for one in removed)


async def prune(call: Call) -> Reply:
    """POST /images/prune."""
    pruned = await call.engine.images.prune(filters_of(call.request))
    return json(render_pruned(pruned, "ImagesDeleted"))


async def search(call: Call) -> Reply:
    """GET /images/search: only Docker Hub's index can be searched, and Orlop does not know it."""
    raise UnsupportedError(
        "searching registries is not supported", hint="look on the registry's web site"
    )


async def save(call: Call) -> Reply:
    """GET /images/get?names=…, GET /images/{name}/get."""
    names = [call.name] if "name" in call.args else call.query.texts("names")
    if not names:
        raise InvalidArgumentError("parameter names is missing")
    return await stream_of(await call.engine.images.save(names))


async def load(call: Call) -> Reply:
    """POST /images/load. The stream tells which images came."""
    lines = Lines()
    quiet = call.query.flag("quiet")

    async def work() -> None:
        loaded = await call.engine.images.load(
            call.request.body, progress=(lambda _: None) if quiet else lines.progress
        )
        for name in loaded:
            what = "Loaded image ID" if name.startswith("sha256:") else "Loaded image"
            lines.emit({"stream": f"{what}: {name}\n"})

    return await lines.reply(work())


async def distribution(call: Call) -> Reply:
    """GET /distribution/{name}/json: what a registry says a name is."""
    credentials = credentials_of(call.request)
    found = await call.engine.images.distribution(
        parse_reference(call.name), credentials=credentials
    )
    return json(render_distribution(found))


def name_of(repository: str, tag: str) -> Reference | None:
    """Return the name that a request gives to the image it makes, if it gives one."""
    return new_name(_with_tag(repository, tag)) if repository else None


def _with_tag(name: str, tag: str) -> str:
    """Join a name and the tag or digest that clients send apart from it."""
    if not tag:
        return name
    return f"{name}@{tag}" if ":" in tag else f"{name}:{tag}"
