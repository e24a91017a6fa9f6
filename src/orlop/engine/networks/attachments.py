"""Containers on their networks: from before their start until after their end.

    plan endpoints -> save the record -> make them real -> the namespace goes to the shim

What is saved first cannot be lost: an engine that dies in between leaves a record from
which the next one sees what to give back. The namespace has no name; until the shim
has its descriptor it dies with the engine, and everything in it.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from orlop.engine.containers.bundle import Bundles
from orlop.engine.containers.kind import kind_of
from orlop.engine.context import Context
from orlop.engine.networks import modes
from orlop.engine.networks.attachment import Attachment, Place
from orlop.engine.networks.directory import Directory
from orlop.engine.networks.host import Host
from orlop.engine.networks.inside import open_network
from orlop.engine.networks.leases import Leases
from orlop.engine.networks.naming import Naming
from orlop.engine.networks.overlay import Overlay
from orlop.engine.networks.planning import Planner
from orlop.engine.networks.ready import Lendable, ReadyNetworks
from orlop.engine.networks.thread import NetworkThread
from orlop.engine.networks.wall import requests
from orlop.engine.spec.idranges import mappings
from orlop.errors import OrlopError
from orlop.model.container import Container
from orlop.model.network import Endpoint, EndpointOptions, Network, PortMapping
from orlop.network.bridge_device import name_of
from orlop.network.egress.learned import Found
from orlop.network.firewall.reserve import PortRequest
from orlop.network.tunnel import name_of as tunnel_name

if TYPE_CHECKING:
    from orlop.engine.networks.userns import IDs
    from orlop.kernel.netlink.links import Counters

log = logging.getLogger(__name__)

T = TypeVar("T")
_REFILL_S = 0.05


class Attachments:
    """Every method is called with the container's lock held, but for ended()."""

    def __init__(
        self, context: Context, bundles: Bundles, directory: Directory, thread: NetworkThread
    ) -> None:
        self._context = context
        self._bundles = bundles
        self._directory = directory
        self._thread = thread
        self.leases = Leases(context)
        self._has_default = False  # its device was there: other engines have seen it
        self._refilling: asyncio.Task[None] | None = None
        self._naming = Naming(context, bundles, self._inside, self._open)
        self._planner = Planner(directory, self.leases)
        self.overlay = Overlay(context, directory, self.leases, thread, self._naming)
        self.ready = ReadyNetworks(context, directory, self._planner, thread)

    @contextlib.asynccontextmanager
    async def attached(
        self, container: Container
    ) -> AsyncIterator[tuple[Container, dict[str, int]]]:
        """Give the container with its endpoints, saved, and its namespaces to start it in.

        Where the body raises all of it is undone, but for the record.
        """
        ids = _ids(container)
        planned = await self._planned(container)
        try:
            self._context.records.save(planned)
            wanted = self._attachment(planned)
            namespaces = await self._thread.call(Host.attach, wanted, ids)
            self._thread.post(Host.settle)
            try:
                self.overlay.put(planned, planned.endpoints)
                await self._naming.open(planned, wanted.places, namespaces["network"])
                yield planned, namespaces
            except BaseException:
                self.overlay.drop(planned.endpoints)
                self._naming.close(container.id)
                await self._thread.call(Host.disconnect, wanted, namespaces["network"])
                raise
            finally:
                for namespace in namespaces.values():
                    os.close(namespace)
        except BaseException:
            self._give_back(planned)
            self._save_without(container)
            if planned.ports:
                await self._thread.call(Host.release, container.id)
            raise
        self._has_default |= modes.DEFAULT in container.options.networks
        self._refill_soon()
        self._announce(planned, "connect", planned.endpoints)

    def ended(self, container: Container) -> None:
        """Give back what a container had that has ended; *container* as it was."""
        if not container.endpoints:
            return
        gone = self._attachment(container)
        self.overlay.drop(container.endpoints)
        self._naming.close(container.id)
        for user in self._users(container):  # or what it had would stay, with them
            self._thread.post(Host.take_away, gone, user)
        self._give_back(container)
        self._thread.post(Host.disconnect, gone, None)  # before a next start asks for its ports
        self._announce(container, "disconnect", container.endpoints)

    async def take_ready(
        self, container: Container, network: Network, sysctls: Mapping[str, str], *, again: bool
    ) -> Lendable:
        """Hand out a network that waits ready, until return_ready()."""
        self._avoid_clash(container)
        network = self._directory.named(network.name)
        lent = await self.ready.take(container, network, sysctls, again=again)
        self._has_default |= network.name == modes.DEFAULT
        return lent

    async def name_ready(self, container: Container, lent: Lendable) -> Mapping[str, str]:
        """Answer a container on such a network if need be, and return what its files say."""
        is_named, files = self._naming.files(container, (lent.place,))
        if is_named:
            await self._naming.open(container, (lent.place,), lent.plugged.fd)
        return files

    async def publish_ready(self, container: Container, wanted: Sequence[PortRequest]) -> Container:
        """Have ports of the host lead to a container on such a network; returns it with them."""
        ports = await self._thread.call(Host.publish, self._attachment(container), wanted)
        return replace(container, ports=ports)

    def return_ready(self, container: Container, *, as_it_was: bool) -> None:
        self._naming.close(container.id)
        if container.ports:  # before anything else that the thread does for the next
            self._thread.post(Host.withdraw, self._attachment(container))
        self.ready.ended(container.id, as_it_was=as_it_was, called=bool(container.ports))

    def files(self, container: Container) -> Mapping[str, str]:
        """Return what the files of a new container say, by their paths inside."""
        return self._naming.files(container, self._places(container.endpoints))[1]

    def announce(self, container: Container, action: str) -> None:
        self._announce(container, action, container.endpoints)

    def _users(self, owner: Container) -> Iterator[int]:
        """Give the network namespace of a container that has ended, by one that joined it."""
        if not kind_of(owner).can_be_joined:
            return
        for container in self._context.records.all():
            if container.running and container.options.network.startswith("container:"):
                with contextlib.suppress(OSError, OrlopError):
                    joined = self._bundles.network_owner(container)
                    if joined is not None and joined.id == owner.id:
                        with open_network(container) as namespace:
                            yield os.dup(namespace)
                        return

    async def connect(
        self, network: Network, container: Container, wanted: EndpointOptions
    ) -> Container:
        """Put a running container on one more network; returns it, saved."""
        with_option = _with(container, network, wanted)
        await self.overlay.prepare(network, wanted)
        network = self._directory.find(network.id)  # it may have been removed meanwhile
        await self._make_room(network, wanted)
        endpoint = self._planner.one(network, container, wanted, container.endpoints)
        try:
            endpoints = self._planner.routed(with_option, (*container.endpoints, endpoint))
            connected = replace(with_option, endpoints=endpoints)
            self._save(replace(connected, moving=True))
            await self._change(container, connected)
        except BaseException:
            self._planner.give_back((endpoint,))
            self._restore(container)
            raise
        self.overlay.put(connected, endpoints[-1:])
        self._announce(connected, "connect", endpoints[-1:])
        return connected

    async def disconnect(self, network: Network, container: Container) -> Container:
        """Take a running container off a network; returns it, saved."""
        gone = [one for one in container.endpoints if one.network == network.id]
        kept = [one for one in container.endpoints if one.network != network.id]
        left = _without(container, network)
        disconnected = replace(left, endpoints=self._planner.routed(left, kept))
        with open_network(container) as namespace:
            self._save(replace(disconnected, moving=True))
            await self._thread.call(Host.disconnect, self._part(container, gone), namespace)
            await self._republish(container, disconnected)
            self._planner.give_back(gone)  # to which no port leads any more
            changed = self._places(_changed(container, disconnected))
            await self._thread.call(Host.put_right, changed, namespace)
            await self._name(disconnected, namespace)
            self._save(disconnected)
        self.overlay.drop(gone)
        self._announce(disconnected, "disconnect", gone)
        return disconnected

    async def _change(self, before: Container, after: Container) -> None:
        """Make real what *after* has and *before* has not, and record that it is so."""
        known = {one.id for one in before.endpoints}
        fresh = [one for one in after.endpoints if one.id not in known]
        changed = [one for one in _changed(before, after) if one.id in known]
        with open_network(after) as namespace:
            attachment = self._part(after, fresh)
            await self._thread.call(Host.connect, attachment, namespace)
            try:
                await self._thread.call(Host.put_right, self._places(changed), namespace)
                await self._republish(before, after)
                await self._name(after, namespace)
                self._save(after)
            except BaseException:
                await self._thread.call(Host.disconnect, attachment, namespace)
                with contextlib.suppress(OrlopError):  # the first reason is the one to tell
                    back = self._places(_changed(after, before))
                    await self._thread.call(Host.put_right, back, namespace)
                    await self._republish(after, before)
                    await self._name(before, namespace)
                raise

    async def _republish(self, before: Container, after: Container) -> None:
        if before.ports:
            old, new = self._attachment(before), self._attachment(after)
            await self._thread.call(Host.republish, old, new)

    def _restore(self, container: Container) -> None:
        if self._context.records.has(container.id):
            self._save(replace(container, moving=False))

    def _save(self, changed: Container) -> None:
        """Record what it has of networks, beside what others record meanwhile: a stop, health."""
        current = self._context.records.get(changed.id)
        of_networks = replace(current, options=changed.options, endpoints=changed.endpoints)
        self._context.records.save(replace(of_networks, moving=changed.moving))

    async def hold(self) -> None:
        """Hold containers to their egress lists, at once: until restore() is done they are free."""
        await self._thread.call(Host.hold)

    async def restore(self, bridges: Collection[str], *, rules: bool) -> None:
        """Make again what somebody removed: *bridges*, with all that was on them, and *rules*."""
        used = self._used()
        places = [place for one in used for place in one.places]
        gone = {
            network.id: network
            for network, _ in places
            if name_of(network) in bridges or tunnel_name(network) in bridges
        }
        self.ready.forget(list(gone))
        await self._thread.call(Host.restore, list(gone.values()), rules=rules)
        for container in self._running():
            if any(one.network in gone for one in container.endpoints):
                await self._attach_again(container.id, gone)

    async def _attach_again(self, container_id: str, networks: Collection[str]) -> None:
        async with self._context.live(container_id).lock:
            try:
                container = self._context.records.get(container_id)
                mine = [one for one in container.endpoints if one.network in networks]
                if mine:
                    with self._opened(container) as namespace:
                        await self._thread.call(Host.put_right, self._places(mine), namespace)
            except (OSError, OrlopError) as error:  # it may have ended just now
                why = {"container": container_id, "why": str(error)}
                log.warning("cannot be put on its network again", extra=why)

    async def reconcile(self) -> None:
        """Put right what an engine before us left, now that the records are true."""
        for container in self._context.records.all_with_pods():
            if container.endpoints and not container.running:
                self._save_without(container)
        await self._thread.call(Host.reconcile, self._used(), self._directory.with_devices())
        for container in self._running():
            await self._put_right(container.id)
        await self.overlay.open(self._running())

    async def _put_right(self, container_id: str) -> None:
        """Have what its record says, with its names; its end waits for that."""
        async with self._context.live(container_id).lock:
            try:
                container = self._context.records.get(container_id)
                if container.endpoints or container.moving:
                    with self._opened(container) as namespace:
                        await self._finish_moving(container, namespace)
                        await self._name(container, namespace)
            except (OSError, OrlopError) as error:  # it may have ended just now
                why = {"container": container_id, "why": str(error)}
                log.warning("a container's network cannot be put right", extra=why)

    def _opened(self, container: Container) -> contextlib.AbstractContextManager[int]:
        """Give the network namespace of a container that runs, or of a pod."""
        if container.is_pod:
            return self._context.spaces.open_network(container.id)
        return open_network(container)

    async def _finish_moving(self, container: Container, namespace: int) -> None:
        """Make real what an engine before us had only recorded."""
        if container.moving:
            places = self._places(container.endpoints)
            await self._thread.call(Host.put_right, places, namespace)
            self._save(replace(container, moving=False))

    async def close(self) -> None:
        """Remove the devices of networks that nobody is on, and end the thread."""
        await self.overlay.close()
        self.ready.close()
        if not self._thread.started:
            return
        self._naming.close_all()
        used = {place.network.id for one in self._used() for place in one.places}
        unused = [one for one in self._directory.with_devices() if one.id not in used]
        await self._thread.call(Host.tidy, unused)
        self._thread.close()
        if not used:
            self._context.settings.network_mark.unlink(missing_ok=True)

    async def counters(self, container: Container) -> "dict[str, Counters]":
        """Return what went through its interfaces, by their names inside."""
        return await self._thread.call(Host.counters, self._places(container.endpoints))

    async def traffic(self, containers: Iterable[Container]) -> dict[str, tuple[int, int]]:
        """Return how many bytes each has received and sent, by its id; one question for all."""
        places = {container.id: self._places(container.endpoints) for container in containers}
        return await self._thread.call(Host.traffic, places)

    def renamed(self, container: Container) -> None:
        self._naming.renamed(container, self._places(container.endpoints))
        self.overlay.put(container, container.endpoints)

    async def relinked(self, container: Container) -> None:
        with open_network(container) as namespace:
            await self._name(container, namespace)

    async def _open(self, container: str, found: Sequence[Found]) -> None:
        if found:
            await self._thread.call(Host.open, container, found)

    async def _inside(self, namespace: int, function: Callable[[], T]) -> T:
        def work(host: Host) -> T:
            return host.inside(namespace, function)

        return await self._thread.call(work)

    async def _name(self, container: Container, namespace: int) -> None:
        await self._naming.open(container, self._places(container.endpoints), namespace)

    def _running(self) -> list[Container]:
        containers = self._context.records.all_with_pods()
        return [one for one in containers if one.running and (one.endpoints or one.moving)]

    def _used(self) -> list[Attachment]:
        return [self._attachment(container) for container in self._running()]

    def _save_without(self, container: Container) -> None:
        """Record that it has no endpoints, unless it is gone."""
        with contextlib.suppress(OrlopError):
            current = self._context.records.get(container.id)
            self._context.records.note(replace(current, endpoints=(), ports=(), moving=False))

    async def _planned(self, container: Container) -> Container:
        """Choose what it gets. Addresses come last, when nothing suspends any more."""
        ports: tuple[PortMapping, ...] = ()
        if wanted := requests(container.options):
            ports = await self._thread.call(Host.reserve, container.id, wanted)
        try:
            for name, endpoint in container.options.networks.items():
                await self.overlay.prepare(self._directory.named(name), endpoint)
            for name, endpoint in container.options.networks.items():
                await self._make_room(self._directory.named(name), endpoint)
            self._avoid_clash(container)
            return replace(container, endpoints=self._planner.all(container), ports=ports)
        except BaseException:
            if ports:
                await self._thread.call(Host.release, container.id)
            raise

    async def _make_room(self, network: Network, wanted: EndpointOptions) -> None:
        """Let a container have an address that it asks for, if nobody has it yet."""
        if wanted.ipv4:
            await self.ready.surrender(network.id, wanted.ipv4)

    def _refill_soon(self) -> None:
        """Have namespaces made ahead, once nobody waits for the thread."""
        if self._refilling is None or self._refilling.done():
            self._refilling = self._context.spawn(self._refill())

    async def _refill(self) -> None:
        await asyncio.sleep(_REFILL_S)
        more = True
        while more:
            more = await self._thread.call(Host.refill)

    def _avoid_clash(self, container: Container) -> None:
        """Two engines may have chosen one subnet, before either had a device to show it."""
        if modes.DEFAULT in container.options.networks and not self._has_default:
            network = self._directory.named(modes.DEFAULT)
            if not self.leases.in_use(network) and self._directory.avoid_clash(network):
                self.leases.forget(network.id)

    def _attachment(self, container: Container) -> Attachment:
        return self._part(container, container.endpoints)._replace(ports=container.ports)

    def _part(self, container: Container, endpoints: Iterable[Endpoint]) -> Attachment:
        """Return some of what it has, without ports."""
        return Attachment(container.id, self._places(endpoints), (), container.options.egress)

    def _places(self, endpoints: Iterable[Endpoint]) -> tuple[Place, ...]:
        known = ((self._directory.get(one.network), one) for one in endpoints)
        return tuple(Place(network, one) for network, one in known if network is not None)

    def _give_back(self, container: Container) -> None:
        self._planner.give_back(container.endpoints)

    def _announce(self, container: Container, action: str, endpoints: Iterable[Endpoint]) -> None:
        for network, _ in self._places(endpoints):
            attributes = {"container": container.id, "name": network.name, "type": network.driver}
            self._context.events.publish("network", action, id=network.id, attributes=attributes)


def _ids(container: Container) -> "IDs | None":
    """Return the ids of the user namespace that it is to have, if it is."""
    uids, gids = mappings(container.options.userns)
    if not uids:
        return None
    from orlop.engine.networks.userns import ids_of  # rare

    return ids_of(uids, gids)


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
