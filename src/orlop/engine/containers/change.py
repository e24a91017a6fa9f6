"""Changing what a container is: its name, its limits, its restart policy."""

import msgspec
from msgspec.structs import replace

from orlop.engine.containers import names
from orlop.engine.containers.bundle import Bundles, layer_keys
from orlop.engine.containers.cgroup import running_cgroup
from orlop.engine.containers.kind import kind_of, refuse_in_machine
from orlop.engine.containers.lifecycle import Lifecycle
from orlop.engine.context import Context
from orlop.engine.networks import links
from orlop.engine.requests import UpdateRequest
from orlop.engine.spec.resources import resources
from orlop.engine.threads import in_thread
from orlop.errors import InvalidArgumentError, WrongStateError
from orlop.model.container import Container, Resources, Status


class Changes:
    def __init__(self, context: Context, *, bundles: Bundles, lifecycle: Lifecycle) -> None:
        self._context = context
        self._bundles = bundles
        self._lifecycle = lifecycle

    async def rename(self, container_id: str, name: str) -> None:
        names.check_name(name)
        async with self._context.live(container_id).lock:
            container = self._context.records.get(container_id)
            if container.name == name:
                raise InvalidArgumentError(
                    "Renaming a container with the same name as its current name"
                )
            renamed = replace(container, name=name)
            self._context.records.save(renamed)
            self._lifecycle.networks.renamed(renamed)
        self._context.announce(renamed, "rename", oldName=f"/{container.name}")

    async def unlink(self, container_id: str, alias: str) -> None:
        """Remove a link on the default network. A running container loses its name at once."""
        async with self._context.live(container_id).lock:
            container = self._context.records.get(container_id)
            changed = replace(container, options=links.without(container.options, alias))
            self._bundles.renew(changed)
            if changed.running:
                await self._lifecycle.networks.relinked(changed)
            self._context.records.save(changed)

    async def update(self, container_id: str, request: UpdateRequest) -> list[str]:
        """Change limits, at once if it runs, and the policy; all of it or nothing."""
        async with self._context.live(container_id).lock:
            container = self._context.records.get(container_id)
            if container.status in (Status.REMOVING, Status.DEAD):
                raise WrongStateError(f"container {container.name} is marked for removal")
            changed = _changed(container, request)
            limits = resources(changed.options.resources)
            if container.running:
                if not kind_of(container).has_own_cgroup:  # the shim resets it for the next one
                    await self._context.shim.request({"op": "change", "id": container_id})
                with running_cgroup(container) as cgroup:
                    await in_thread(cgroup.update, limits)
            elif container.options.spec:
                raise WrongStateError(f"container {container.name} does not run")
            elif (self._bundles.path(container_id) / "config.json").exists():
                await self._context.stacks.make_ready(layer_keys(changed))
                self._bundles.write(changed)
            self._context.records.save(changed)
        self._context.announce(changed, "update")
        return []


def _changed(container: Container, request: UpdateRequest) -> Container:
    """Return the container with every limit that *request* names."""
    options = container.options
    if request.restart is not None and request.restart.name != "no" and options.auto_remove:
        raise InvalidArgumentError(
            "Restart policy cannot be updated because AutoRemove is enabled for the container"
        )
    default = Resources()
    named = {
        field.name: getattr(request.resources, field.name)
        for field in msgspec.structs.fields(Resources)
        if getattr(request.resources, field.name) != getattr(default, field.name)
    }
    if not all(name.startswith("cpu") for name in named):
        refuse_in_machine(container, "limits that change, but for processors")
    return replace(
        container,
        options=replace(
            options,
            resources=replace(options.resources, **named),
            restart=request.restart or options.restart,
        ),
    )
