"""Operations on this machine's network, for the network thread only."""

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from orlop.engine.networks.attachment import Attachment, Place
from orlop.engine.networks.wall import Wall
from orlop.errors import OrlopError, UnavailableError
from orlop.kernel.netlink import links
from orlop.kernel.netlink.links import Counters
from orlop.model.network import Endpoint, Network, PortMapping
from orlop.model.overlay import Peering
from orlop.network import choose, counters, ownership, veth
from orlop.network.bridged import Bridged
from orlop.network.egress.learned import Found
from orlop.network.firewall.reserve import PortRequest, Ports, Reservation
from orlop.network.firewall.watch import Watch
from orlop.network.interface import Driver
from orlop.network.namespace import Home, Pool
from orlop.network.plugged import Plugged
from orlop.network.tunnel import name_of as tunnel_name

if TYPE_CHECKING:
    from orlop.engine.networks.userns import IDs

log = logging.getLogger(__name__)

T = TypeVar("T")


class Host:
    """Every method undoes its work when it fails.

    It caches only state of the machine that it can look up again: others may change all of
    it, and whoever notices repairs it.
    """

    def __init__(
        self, engine: str, folder: Path, lacks: MutableMapping[str, str] | None = None
    ) -> None:
        self._engine = engine  # eight hex digits, in the aliases of our interfaces
        self._home = Home()
        self._home.postpone()
        self._pool = Pool(self._home)
        self._wall = Wall(engine, folder, self._home, {} if lacks is None else lacks)
        self._guards = self._wall.guards()
        self._ports = Ports()
        self._reserved: dict[str, Reservation] = {}  # by container
        self._drivers: dict[str, Driver] = {}
        self._made: dict[str, Network] = {}  # whose devices we have made or repaired

    def check(self, network: Network) -> Network:
        """Return the network with its driver's choices filled in."""
        return self._driver(network).check(network)

    def attach(self, wanted: Attachment, ids: "IDs | None" = None) -> dict[str, int]:
        """Return a "network" namespace connected to all the networks; the caller closes it.

        With *ids* also return its "user" namespace.
        """
        with _explained("make the network of a container"), ExitStack() as undo:
            namespaces = self._namespaces(ids)
            for namespace in namespaces.values():
                undo.callback(os.close, namespace)
            self._join(wanted, namespaces["network"], undo)
            undo.pop_all()
        return namespaces

    def plug(self, place: Place, sysctls: Mapping[str, str]) -> Plugged:
        """Return a namespace connected to one network, for a future container."""
        with _explained("make a network ahead"), ExitStack() as undo:
            namespace = self._pool.take()
            undo.callback(os.close, namespace)
            self._join(Attachment(place.endpoint.container, (place,)), namespace, undo)
            plugged = Plugged(self._home, namespace, place.endpoint.interface, sysctls)
            undo.pop_all()
        self.settle()
        return plugged

    def unplug(self, some: Sequence[Place]) -> None:
        """Remove interfaces at once, after their namespaces were released."""
        for network, endpoint in some:
            with _logged("detaching", endpoint=endpoint.id):
                self._driver(network).detach(network, endpoint, self._home.fileno())
        self._expel(some)

    def there(self, some: Sequence[Place]) -> list[Place]:
        """Return those whose end on the host exists."""
        return [
            place
            for place in some
            if links.find(self._home.netlink, ownership.veth_name(place.endpoint))
        ]

    def calm(self, some: Sequence[Plugged]) -> list[Plugged]:
        """Make TCP forget ended connections in them; return those without sockets."""
        return [one for one in some if one.calm(self._home)]

    def _namespaces(self, ids: "IDs | None") -> dict[str, int]:
        if ids is None:
            return {"network": self._pool.take()}
        from orlop.engine.networks import userns  # rare

        return userns.make(self._home, ids)

    def counters(self, places: Sequence[Place]) -> dict[str, Counters]:
        """Return the traffic of the interfaces, by their names inside."""
        return counters.of_endpoints(self._home, [place.endpoint for place in places])

    def traffic(self, containers: Mapping[str, Sequence[Place]]) -> dict[str, tuple[int, int]]:
        """Return the bytes in and out of each container with a countable interface."""
        counted = {name: self.counters(places).values() for name, places in containers.items()}
        return {
            name: (sum(one.rx_bytes for one in each), sum(one.tx_bytes for one in each))
            for name, each in counted.items()
            if each
        }

    def reserve(self, container: str, requests: Sequence[PortRequest]) -> tuple[PortMapping, ...]:
        """Hold host ports for a container, until it is disconnected after its end."""
        reservation = self._ports.reserve(requests)
        self.release(container)
        self._reserved[container] = reservation
        return reservation.mappings

    def publish(
        self, wanted: Attachment, requests: Sequence[PortRequest]
    ) -> tuple[PortMapping, ...]:
        """Hold host ports, and publish them for a container."""
        ports = self.reserve(wanted.container, requests)
        try:
            with _explained("publish the ports of a container"):
                self._wall.publish(wanted._replace(ports=ports))
        except BaseException:
            self.release(wanted.container)
            raise
        return ports

    def withdraw(self, gone: Attachment) -> None:
        """Withdraw the ports of a container that has ended, and release them."""
        with _logged("withdrawing ports", container=gone.container):
            self._wall.withdraw(gone)
        self.release(gone.container)

    def release(self, container: str) -> None:
        """Release a container's host ports."""
        if (reservation := self._reserved.pop(container, None)) is not None:
            reservation.close()

    def watch(self) -> Watch:
        """Return the watch for changes by others; for the event loop's thread."""
        return self._wall.watch()

    def bridges(self) -> frozenset[str]:
        """Return the bridges and tunnels in use; also for the event loop's thread."""
        tunnels = {tunnel_name(one) for one in list(self._made.values()) if one.driver == "vxlan"}
        return self._wall.bridges | tunnels

    def inside(self, namespace: int, function: Callable[[], T]) -> T:
        """Return the result of *function*, such as a socket, run in the namespace."""
        with self._home.inside(namespace):
            return function()

    def settle(self) -> None:
        """Run tasks that an attach has postponed, such as announcements."""
        with _logged("telling neighbours"):
            self._home.settle()

    def refill(self) -> bool:
        """Make one namespace ahead; return whether there is room for more."""
        with _logged("making a namespace ahead"):
            return self._pool.refill()
        return False

    def connect(self, wanted: Attachment, namespace: int) -> None:
        """Connect a namespace that is in use to more networks."""
        with _explained("connect a container to a network"), ExitStack() as undo:
            self._join(wanted, namespace, undo)
            undo.pop_all()

    def put_right(self, places: Sequence[Place], namespace: int) -> None:
        """Repair existing endpoints: their routes may have changed."""
        with _explained("change the network of a container"):
            for network, endpoint in places:
                self._driver(network).attach(network, endpoint, namespace)

    def disconnect(self, gone: Attachment, namespace: int | None) -> None:
        """Disconnect endpoints from a running container, or an ended one if *namespace* is None."""
        with _logged("withdrawing ports", container=gone.container):
            self._wall.withdraw(gone)
        if namespace is None:
            self.release(gone.container)
        for network, endpoint in gone.places:
            with _logged("detaching", endpoint=endpoint.id):
                self._driver(network).detach(network, endpoint, namespace)
        self._expel(gone.places)
        with _logged("withdrawing an egress list", container=gone.container):
            self._guards.withdraw(gone)

    def take_away(self, gone: Attachment, namespace: int) -> None:
        """Remove the endpoints of a container that has ended from *namespace*, and close that."""
        try:
            self.disconnect(gone, namespace)
        finally:
            os.close(namespace)

    def republish(self, before: Attachment, after: Attachment) -> None:
        """Publish the ports of a container again, after its networks have changed."""
        with _explained("publish the ports of a container"):
            self._wall.republish(before, after)

    def open(self, container: str, found: Sequence[Found]) -> None:
        """Open, for a while, the addresses that a name of a container's list resolved to."""
        self._guards.open(container, found)

    def know(self, network: Network, peering: Peering) -> None:
        """Pass the state of other hosts to the tunnel of a shared network."""
        from orlop.network.vxlan import Vxlan  # takes 10 ms, and most engines do not need it

        driver = self._driver(network)
        if isinstance(driver, Vxlan):
            with _explained(f"bring network {network.name} up to date"):
                driver.know(network, peering)

    def remove(self, network: Network) -> None:
        """Remove the network's devices and rules."""
        self._made.pop(network.id, None)
        with _explained(f"remove network {network.name}"):
            self._wall.remove(network)
            self._driver(network).remove(network)

    def reconcile(self, used: Sequence[Attachment], networks: Collection[Network]) -> None:
        """Make the devices and rules that are in use, and remove all others of ours."""
        places = [place for attachment in used for place in attachment.places]
        needed = {place.network.id: place.network for place in places}
        made = [network for network in needed.values() if self._made_again(network)]
        with _logged("applying the rules"):
            self._wall.apply([one for one in made if self._has_bridge(one)], used)
        endpoints = [place.endpoint for place in places]
        for network in {one.driver: one for one in networks}.values():
            with _logged("looking for strays", driver=network.driver):
                for stray in self._driver(network).strays(networks, endpoints):
                    log.info("stray interface", extra={"interface": stray})
                    veth.remove(self._home, stray)
        with _logged("applying egress lists"):
            self._guards.reconcile(used)
        for attachment in used:
            self._keep(attachment)

    def _keep(self, attachment: Attachment) -> None:
        if attachment.container in self._reserved:  # it has just been started
            return
        reservation, lost = self._ports.keep(attachment.ports)
        self._reserved[attachment.container] = reservation
        for mapping in lost:
            said = f"{mapping.host_ip}:{mapping.host_port}/{mapping.protocol}"
            more = {"container": attachment.container, "port": said}
            log.warning("a published port is another's by now", extra=more)

    def restore(self, networks: Collection[Network], *, rules: bool) -> None:
        """Restore what somebody removed: the devices of *networks*, and the *rules*."""
        filtered = [one for one in self._made.values() if rules and one.driver == "vxlan"]
        for network in {one.id: one for one in (*filtered, *networks)}.values():
            self._made_again(network)
        if rules or networks:
            with _logged("restoring the rules"):
                self._wall.restore()
            self.hold()

    def hold(self) -> None:
        """Apply egress lists again, after somebody has changed the rules."""
        with _logged("restoring egress lists"):
            self._guards.restore()

    def _made_again(self, network: Network) -> bool:
        with _logged("putting a network right", network=network.name):
            self._driver(network).create(network)
            self._made[network.id] = network
        return network.id in self._made

    def tidy(self, unused: Collection[Network]) -> None:
        """Remove the devices of unused networks."""
        for network in unused:
            with _logged("removing a network's devices", network=network.name):
                self.remove(network)
        with _logged("removing egress lists"):
            self._guards.tidy()

    def close(self) -> None:
        """Release what is pooled; what containers use stays."""
        self._pool.close()
        self._wall.close()
        for container in list(self._reserved):
            self.release(container)
        self._home.close()

    def _join(self, wanted: Attachment, namespace: int, undo: ExitStack) -> None:
        for network, _ in wanted.places:
            self._make(network)
        if wanted.egress is not None:
            undo.callback(self._unguard, wanted)
        undo.callback(self._expel, wanted.places)
        self._hold(wanted)
        for network, endpoint in wanted.places:
            driver = self._driver(network)
            undo.callback(self._undo, driver, network, endpoint, namespace)
            driver.attach(network, endpoint, namespace)
        if wanted.ports:
            undo.callback(self._wall.withdraw, wanted)
            self._wall.publish(wanted)

    def _make(self, network: Network) -> None:
        if self._made.get(network.id) != network:
            self._driver(network).create(network)
            if self._has_bridge(network):
                self._wall.add(network)
            self._made[network.id] = network

    def _expel(self, places: Sequence[Place]) -> None:
        with _logged("forgetting who sends"):
            self._wall.expel(places)

    def _has_bridge(self, network: Network) -> bool:
        return isinstance(self._driver(network), Bridged)

    def _undo(self, driver: Driver, network: Network, endpoint: Endpoint, namespace: int) -> None:
        with _logged("undoing an attach", endpoint=endpoint.id):
            driver.detach(network, endpoint, namespace)

    def _hold(self, wanted: Attachment) -> None:
        """Apply a container's rules before its interfaces exist, because it may be running."""
        try:
            self._apply(wanted)
        except UnavailableError:  # somebody has just removed a bridge
            for network, _ in wanted.places:
                self._driver(network).create(network)
            self._apply(wanted)

    def _apply(self, wanted: Attachment) -> None:
        self._guards.apply(wanted)
        self._wall.admit(wanted)

    def _unguard(self, wanted: Attachment) -> None:
        with _logged("undoing an egress list", container=wanted.container):
            self._guards.withdraw(wanted)

    def _driver(self, network: Network) -> Driver:
        name = network.driver
        if name not in self._drivers:
            self._drivers[name] = choose.driver(name, self._home, self._engine)
        return self._drivers[name]


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OrlopError(f"cannot {what}: {error}") from error


@contextlib.contextmanager
def _logged(what: str, **more: str) -> Iterator[None]:
    """Log a failure and continue: what is left is a stray, which the next engine removes."""
    try:
        yield
    except (OSError, OrlopError) as error:
        log.warning("%s failed", what, extra={"why": str(error), **more})
