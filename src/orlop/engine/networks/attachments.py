"""Containers on their networks: from before their start until after their end.

    plan endpoints -> save the record -> make them real -> the namespace goes to the shim

What is saved first cannot be lost: an engine that dies in between leaves a record from
which the next one sees what to give back. The namespace has no name; until the shim
has its descriptor it dies with the engine, and everything in it.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Iterable

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.networks import modes
from orlop.engine.networks.directory import Directory
from orlop.engine.networks.host import Attachment, Host, Place
from orlop.engine.networks.inside import open_network
from orlop.engine.networks.leases import Leases
from orlop.engine.networks.planning import Planner
from orlop.engine.networks.thread import NetworkThread
from orlop.errors import OrlopError, UnsupportedError
from orlop.model.container import Container
from orlop.model.network import Endpoint, EndpointOptions, Network


class Attachments:
    """Every method is called with the container's lock held, but for ended()."""

    def __init__(self, context: Context, directory: Directory, thread: NetworkThread) -> None:
        self._context = context
        self._directory = directory
        self._thread = thread
        self.leases = Leases(context)
        self._planner = Planner(directory, self.leases)

    @contextlib.asynccontextmanager
    async def attached(self, container: Container) -> AsyncIterator[tuple[Container, int]]:
        """Give the container with its endpoints, saved, and its namespace to start it in.

        Where the body raises all of it is undone, but for the record.
        """
        if container.options.userns not in ("", "host"):
            raise UnsupportedError("networks are not supported with a user namespace")
        planned = self._planned(container)
        try:
            self._context.records.save(planned)
            wanted = self._attachment(planned)
            namespace = await self._thread.call(Host.attach, wanted)
            try:
                yield planned, namespace
            except BaseException:
                await self._thread.call(Host.disconnect, wanted, namespace)
                raise
            finally:
                os.close(namespace)
        except BaseException:
            self._give_back(planned)
            self._save_without(container)
            raise
        self._announce(planned, "connect", planned.endpoints)

    def ended(self, container: Container) -> None:
        """Give back what a container had that has ended; *container* as it was."""
        if not container.endpoints:
            return
        gone = self._attachment(container)
        self._give_back(container)
        self._context.spawn(self._thread.call(Host.disconnect, gone, None))
        self._announce(container, "disconnect", container.endpoints)

    async def connect(
        self, network: Network, container: Container, wanted: EndpointOptions
    ) -> Container:
        """Put a running container on one more network; returns it, saved."""
        with_option = _with(container, network, wanted)
        endpoint = self._planner.one(network, container, wanted, container.endpoints)
        try:
            endpoints = self._planner.routed(with_option, (*container.endpoints, endpoint))
            connected = replace(with_option, endpoints=endpoints)
            self._context.records.save(connected)
            await self._change(container, connected)
        except BaseException:
            self._planner.give_back((endpoint,))
            self._restore(container)
            raise
        self._announce(connected, "connect", endpoints[-1:])
        return connected

    async def disconnect(self, network: Network, container: Container) -> Container:
        """Take a running container off a network; returns it, saved."""
        gone = [one for one in container.endpoints if one.network == network.id]
        kept = [one for one in container.endpoints if one.network != network.id]
        left = _without(container, network)
        disconnected = replace(left, endpoints=self._planner.routed(left, kept))
        with open_network(container) as namespace:
            places = self._places(gone)
            await self._thread.call(Host.disconnect, Attachment(places), namespace)
            self._context.records.save(disconnected)
            self._planner.give_back(gone)
            changed = _changed(container, disconnected)
            await self._thread.call(Host.put_right, self._places(changed), namespace)
        self._announce(disconnected, "disconnect", gone)
        return disconnected

    async def _change(self, before: Container, after: Container) -> None:
        """Make real what *after* has and *before* has not."""
        known = {one.id for one in before.endpoints}
        fresh = [one for one in after.endpoints if one.id not in known]
        changed = [one for one in _changed(before, after) if one.id in known]
        with open_network(after) as namespace:
            attachment = Attachment(self._places(fresh))
            await self._thread.call(Host.connect, attachment, namespace)
            try:
                await self._thread.call(Host.put_right, self._places(changed), namespace)
            except BaseException:
                await self._thread.call(Host.disconnect, attachment, namespace)
                raise

    def _restore(self, container: Container) -> None:
        if self._context.records.has(container.id):
            current = self._context.records.get(container.id)
            restored = replace(current, options=container.options, endpoints=container.endpoints)
            self._context.records.save(restored)

    async def reconcile(self) -> None:
        """Put right what an engine before us left, now that the records are true."""
        for container in self._context.records.all():
            if container.endpoints and not container.running:
                self._save_without(container)
        await self._thread.call(Host.reconcile, self._used(), self._directory.with_devices())

    async def close(self) -> None:
        """Remove the devices of networks that nobody is on, and end the thread."""
        if not self._thread.started:
            return
        used = {network.id for network, _ in self._used()}
        unused = [one for one in self._directory.with_devices() if one.id not in used]
        await self._thread.call(Host.tidy, unused)
        self._thread.close()
        if not used:
            self._context.settings.network_mark.unlink(missing_ok=True)

    def _used(self) -> list[Place]:
        running = (one for one in self._context.records.all() if one.running)
        return [place for one in running for place in self._places(one.endpoints)]

    def _save_without(self, container: Container) -> None:
        """Record that it has no endpoints, unless it is gone or that cannot be recorded now."""
        with contextlib.suppress(OrlopError):
            current = self._context.records.get(container.id)
            self._context.records.save(replace(current, endpoints=(), ports=()))

    def _planned(self, container: Container) -> Container:
        self._avoid_clash(container)
        endpoints = self._planner.all(container)
        return replace(container, endpoints=endpoints)

    def _avoid_clash(self, container: Container) -> None:
        """Two engines may have chosen one subnet, before either had a device to show it."""
        if modes.DEFAULT in container.options.networks:
            network = self._directory.named(modes.DEFAULT)
            if not self.leases.in_use(network) and self._directory.avoid_clash(network):
                self.leases.forget(network.id)

    def _attachment(self, container: Container) -> Attachment:
        return Attachment(self._places(container.endpoints), container.ports)

    def _places(self, endpoints: Iterable[Endpoint]) -> tuple[Place, ...]:
        known = ((self._directory.get(one.network), one) for one in endpoints)
        return tuple(Place(network, one) for network, one in known if network is not None)

    def _give_back(self, container: Container) -> None:
        self._planner.give_back(container.endpoints)

    def _announce(self, container: Container, action: str, endpoints: Iterable[Endpoint]) -> None:
        for network, _ in self._places(endpoints):
            attributes = {"container": container.id, "name": network.name, "type": network.driver}
            self._context.events.publish("network", action, id=network.id, attributes=attributes)


def _with(container: Container, network: Network, wanted: EndpointOptions) -> Container:
    networks = {**container.options.networks, network.name: wanted}
    return replace(container, options=replace(container.options, networks=networks))


def _without(container: Container, network: Network) -> Container:
    networks = {name: o for name, o in container.options.networks.items() if name != network.name}
    return replace(container, options=replace(container.options, networks=networks))


def _changed(before: Container, after: Container) -> list[Endpoint]:
    """Return the endpoints of *after* that *before* has otherwise, or not at all.

    Those that lose a route come first: there can be one default route only.
    """
    known = {one.id: one for one in before.endpoints}
    changed = [one for one in after.endpoints if known.get(one.id) != one]
    return sorted(changed, key=lambda one: len(one.routes))
