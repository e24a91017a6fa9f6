"""What is done to this machine's network: called in the network thread only."""

import contextlib
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from orlop.errors import OrlopError
from orlop.model.network import Endpoint, Network, PortMapping
from orlop.network import choose, veth
from orlop.network.interface import Driver
from orlop.network.namespace import Home, Pool

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """An endpoint, and the network that it is on."""

    network: Network
    endpoint: Endpoint


class Attachment(NamedTuple):
    """All that a container has of networks."""

    places: tuple[Place, ...]
    ports: tuple[PortMapping, ...] = ()


class Host:
    """Every method undoes what it did when it fails.

    What it remembers of the machine is only what need not be looked up: all of it may
    be changed by others, and is then put right by who finds it so.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine  # eight hex digits, in the aliases of all that is ours
        self._home = Home()
        self._pool = Pool(self._home)
        self._drivers: dict[str, Driver] = {}
        self._made: dict[str, Network] = {}  # whose devices we have made or put right

    def check(self, network: Network) -> Network:
        """Return the network with what its driver decides filled in."""
        return self._driver(network).check(network)

    def attach(self, wanted: Attachment) -> int:
        """Return a namespace on all the networks; who has it closes it."""
        with _explained("make the network of a container"), ExitStack() as undo:
            namespace = self._pool.take()
            undo.callback(os.close, namespace)
            self._join(wanted, namespace, undo)
            undo.pop_all()
        return namespace

    def refill(self) -> bool:
        """Make one namespace ahead; return whether there is room for more."""
        return self._pool.refill()

    def connect(self, wanted: Attachment, namespace: int) -> None:
        """Put a namespace that is in use on more networks."""
        with _explained("connect a container to a network"), ExitStack() as undo:
            self._join(wanted, namespace, undo)
            undo.pop_all()

    def put_right(self, places: Sequence[Place], namespace: int) -> None:
        """Make what is there be as the endpoints say: their routes may be others."""
        with _explained("change the network of a container"):
            for network, endpoint in places:
                self._driver(network).attach(network, endpoint, namespace)

    def disconnect(self, gone: Attachment, namespace: int | None) -> None:
        """Take endpoints away, of a container that runs on or, without *namespace*, has ended."""
        for network, endpoint in gone.places:
            with _logged("detaching", endpoint=endpoint.id):
                self._driver(network).detach(network, endpoint, namespace)

    def remove(self, network: Network) -> None:
        """Remove the network's devices and rules."""
        self._made.pop(network.id, None)
        with _explained(f"remove network {network.name}"):
            self._driver(network).remove(network)

    def reconcile(self, used: Sequence[Place], networks: Collection[Network]) -> None:
        """Have the devices of networks in use, and none that nobody speaks of."""
        for network in {place.network.id: place.network for place in used}.values():
            with _logged("putting a network right", network=network.name):
                self._make(network)
        ours = [network for network in networks if network.driver in choose.DRIVERS]
        endpoints = [place.endpoint for place in used]
        for driver in {network.driver: self._driver(network) for network in ours}.values():
            with _logged("looking for strays", driver=driver.name):
                for stray in driver.strays(networks, endpoints):
                    log.info("stray interface", extra={"interface": stray})
                    veth.remove(self._home, stray)

    def tidy(self, unused: Collection[Network]) -> None:
        """Remove the devices of networks that nobody is on."""
        for network in unused:
            with _logged("removing a network's devices", network=network.name):
                self.remove(network)

    def close(self) -> None:
        """Let go of what waits; what containers use stays."""
        self._pool.close()
        self._home.close()

    def _join(self, wanted: Attachment, namespace: int, undo: ExitStack) -> None:
        for network, endpoint in wanted.places:
            driver = self._driver(network)
            self._make(network)
            undo.callback(self._undo, driver, network, endpoint, namespace)
            driver.attach(network, endpoint, namespace)

    def _make(self, network: Network) -> None:
        if self._made.get(network.id) != network:
            self._driver(network).create(network)
            self._made[network.id] = network

    def _undo(self, driver: Driver, network: Network, endpoint: Endpoint, namespace: int) -> None:
        with _logged("undoing an attach", endpoint=endpoint.id):
            driver.detach(network, endpoint, namespace)

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
    """Go on where it fails: what is left is a stray, which the next engine removes."""
    try:
        yield
    except (OSError, OrlopError) as error:
        log.warning("%s failed", what, extra={"why": str(error), **more})
