"""Networks of sandboxes that are started by recipes: by what waits ready, or made for one.

What waits ready is for those that ask for no more than a place on a network, and ports of
the host that lead there. Egress lists, chosen addresses and the like are made as for every
container.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_network
from typing import NamedTuple

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.networks.attachments import Attachments
from orlop.engine.networks.directory import Directory
from orlop.engine.networks.ready import Lendable, is_plain
from orlop.engine.networks.wall import requests
from orlop.errors import OrlopError, UnavailableError
from orlop.model.container import Container, ContainerOptions
from orlop.model.network import Bandwidth, Network

_ROOMY = 4096  # addresses


class Lent(NamedTuple):
    """What a sandbox is started with."""

    container: Container  # with its endpoints
    files: Mapping[str, str]  # contents of its own, by their paths inside
    descriptors: tuple[int, ...]  # a network namespace, and its sysfs if that was set up as well


class Lending:
    def __init__(self, context: Context, directory: Directory, attachments: Attachments) -> None:
        self._context = context
        self._directory = directory
        self._attachments = attachments
        self._ready = attachments.ready

    @contextlib.asynccontextmanager
    async def lent(
        self, container: Container, sysctls: Mapping[str, str], *, again: bool
    ) -> AsyncIterator[Lent]:
        """Give what a new *container*, whose record is added, is to have.

        *sysctls* are those of its network namespace. *again*: the container cannot change
        it, so that it may be used again. Where the body raises nothing is left.
        """
        network = self._plain(container.options)
        way = self._made(container)
        if network is not None:
            way = self._taken(container, network, sysctls, again=again)
        try:
            async with way as lent:
                yield lent
        except BaseException:
            self._context.records.remove(container.id)
            self._context.forget(container.id)
            raise

    def _plain(self, options: ContainerOptions) -> Network | None:
        """Return the network of who asks for no more than a place there; None for others."""
        if len(options.networks) != 1:
            return None
        name, wanted = next(iter(options.networks.items()))
        special = (
            not is_plain(wanted),
            options.egress is not None,
            options.mac_address,
            options.privileged,
            options.bandwidth != Bandwidth(),
            options.sysctls,
            options.userns not in ("", "host"),
        )
        network = self._directory.named(name)
        return network if _is_roomy(network) and not any(special) else None

    @contextlib.asynccontextmanager
    async def _taken(
        self, container: Container, network: Network, sysctls: Mapping[str, str], *, again: bool
    ) -> AsyncIterator[Lent]:
        wanted = requests(container.options)
        ready = await self._attachments.take_ready(container, network, sysctls, again=again)
        placed = replace(container, endpoints=(ready.place.endpoint,))
        try:
            if wanted:
                placed = await self._attachments.publish_ready(placed, wanted)
            self._context.records.add(placed, stored=False)
            files = await self._attachments.name_ready(placed, ready)
            yield Lent(placed, files, (ready.plugged.fd, ready.plugged.system))
        except BaseException as error:
            nothing_runs = isinstance(error, OrlopError) and not isinstance(error, UnavailableError)
            if self._ready.lent(container.id) is ready:
                self._attachments.return_ready(placed, as_it_was=nothing_runs)
            raise
        if self._ready.lent(container.id) is ready:  # else it has ended already
            self._attachments.announce(placed, "connect")

    @contextlib.asynccontextmanager
    async def _made(self, container: Container) -> AsyncIterator[Lent]:
        self._context.records.add(container, stored=False)
        async with (
            self._context.live(container.id).lock,
            self._attachments.attached(container) as (attached, namespaces),
        ):
            files = self._attachments.files(attached)
            yield Lent(attached, files, (namespaces["network"],))

    def ended(self, container: Container, *, as_it_was: bool) -> None:
        """Take back what it had; *as_it_was*: nobody in it could change it, and all are gone."""
        ready = self._ready.lent(container.id)
        if ready is None:
            self._attachments.ended(container)
        elif _is_same(ready, container):
            self._attachments.return_ready(container, as_it_was=as_it_was)
            self._attachments.announce(container, "disconnect")
        else:  # it was connected elsewhere since
            self._ready.give_up(container.id)
            self._attachments.ended(container)

    def distrust(self) -> None:
        self._ready.distrust()


def _is_roomy(network: Network) -> bool:
    """Whether addresses may be kept there for nobody; of IPv4, whose flows can be forgotten."""
    subnets = [ip_network(one.ip_range or one.subnet) for one in network.subnets]
    return network.driver == "bridge" and all(
        one.version == 4 and one.num_addresses >= _ROOMY for one in subnets
    )


def _is_same(ready: Lendable, container: Container) -> bool:
    return container.endpoints == (ready.place.endpoint,) and not container.moving
