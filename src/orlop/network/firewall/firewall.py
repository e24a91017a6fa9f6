"""The engine's table: made whole, kept by elements, put back when somebody removed it."""

import errno
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from orlop.errors import InvalidArgumentError
from orlop.kernel.nftables import Nftables
from orlop.network.firewall import flows, rules
from orlop.network.firewall.beside import Beside
from orlop.network.firewall.bridges import make_table
from orlop.network.firewall.forwarding import (
    Forwarding,
    Guarded,
    allow_loopback,
    bridges_filter_ipv6,
)
from orlop.network.firewall.state import FirewallState, NetworkRules, Note, PublishedPort

_Key = tuple[str, str, int]  # protocol, the host's address and port


class Firewall:
    """The rules of the *engine* (8 hex digits) in the caller's network namespace.

    For one thread. What it was told last it remembers, and restore() makes it so again;
    a method that fails leaves rules and memory as they were. Nothing is removed when it
    is closed, or dies: containers run on.

    Args:
        engine: what tells this engine's rules from those of another.
        folder: where to remember what was switched on, until the next reboot.
    """

    def __init__(self, engine: str, folder: Path) -> None:
        if not re.fullmatch("[0-9a-f]{8}", engine):
            raise InvalidArgumentError(f"{engine!r} is not an engine's 8 hex digits")
        self.table = f"orlop-{engine}"
        self._nft = Nftables()
        self._beside = Beside(self._nft, self.table)
        self._forwarding = Forwarding(folder / "forwarding")
        self._networks: dict[str, NetworkRules] = {}
        self._ports: dict[_Key, PublishedPort] = {}
        self._notes: set[Note] = set()
        self._loopback: set[str] = set()  # networks whose bridges take answers to loopback

    @property
    def nft(self) -> Nftables:
        """The connection that our own changes come from."""
        return self._nft

    @property
    def port(self) -> int:
        """The netlink address that our own changes come from."""
        return self._nft.port

    @property
    def bridges(self) -> frozenset[str]:
        """The bridges that the table speaks of."""
        return frozenset(network.bridge for network in self._networks.values())

    @property
    def state(self) -> FirewallState:
        """What was told last."""
        return self._with(self._ports)

    def close(self) -> None:
        """Let go of the connection; the rules stay."""
        self._nft.close()

    def apply(self, state: FirewallState) -> None:
        """Make the table what *state* says, in one transaction; without networks it goes.

        The bridges have to be there already. Connections that pass now and may still
        pass are not cut.
        """
        lacking = self._forwarding.lacking(_forwarded(state.networks))
        guarded = self._forwarding.plan(lacking, (network.bridge for network in state.networks))
        with ExitStack() as undo:
            self._make(state, guarded)
            undo.callback(self._make, self.state, self._forwarding.guarded)
            self._forwarding.switch_on(lacking, guarded)
            self._beside.make_way([network.bridge for network in state.networks])
            undo.pop_all()
        published = [port for port in state.ports if self._ports.get(_key(port)) != port]
        self._networks = {network.id: network for network in state.networks}
        self._ports = {_key(port): port for port in state.ports}
        self._notes = set(state.notes)
        self._loopback.clear()
        self._allow_loopback(state.ports)
        flows.forget_unpublished(published)

    def restore(self) -> None:
        """Apply again what was told last, because somebody changed it."""
        self.apply(self.state)

    def obstacles(self) -> list[str]:
        """Return the chains of others that refuse what we let pass, and that we leave alone."""
        return self._beside.obstacles()

    def add_network(self, network: NetworkRules) -> None:
        """Add a network, whose bridge is there; one that is known is replaced."""
        others = [one for one in self._networks.values() if one.id != network.id]
        whole = self.state._replace(networks=(*others, network))
        known = network.id in self._networks
        if known or not others or self._forwarding.lacking(_forwarded([network])):
            self.apply(whole)
            return
        with ExitStack() as undo:
            elements = rules.of_networks([network])
            self._change(self._running(rules.added(self.table, elements)), lambda: whole)
            undo.callback(self._make, self.state, self._forwarding.guarded)
            self._beside.make_way([one.bridge for one in whole.networks])
            undo.pop_all()
        self._networks[network.id] = network

    def remove_network(self, network_id: str) -> None:
        """Remove a network and its ports; what is not known is no error."""
        if network_id in self._networks:
            networks = [one for one in self._networks.values() if one.id != network_id]
            ports = [port for port in self._ports.values() if port.network != network_id]
            bridge = self._networks[network_id].bridge
            notes = [one for one in self._notes if one.bridge != bridge]
            self.apply(FirewallState(tuple(networks), tuple(ports), tuple(notes)))

    def publish(self, ports: Sequence[PublishedPort]) -> None:
        """Let *ports* of the host lead to a container, all or none."""
        new = {_key(port): port for port in ports if self._ports.get(_key(port)) != port}
        if not new:
            return
        if any(key in self._ports for key in new):  # a map's value is not changed in place
            self.apply(self._with({**self._ports, **new}))
            return
        commands = rules.added(self.table, rules.of_ports(new.values()))
        self._change(self._running(commands), lambda: self._with({**self._ports, **new}))
        self._ports.update(new)
        self._allow_loopback(new.values())
        flows.forget_unpublished(new.values())

    def withdraw(self, ports: Iterable[PublishedPort]) -> None:
        """Let *ports* of the host lead nowhere; those that do not lead anywhere are no error."""
        gone = {_key(port): port for port in ports if self._ports.get(_key(port)) == port}
        if not gone:
            return
        commands = rules.removed(self.table, rules.of_ports(gone.values()))
        self._change(
            self._running(commands),
            lambda: self._with({key: port for key, port in self._ports.items() if key not in gone}),
        )
        for key in gone:
            self._ports.pop(key, None)
        flows.forget_published(gone.values())

    def note(self, notes: Iterable[Note]) -> None:
        """Treat addresses as *notes* say."""
        if new := set(notes) - self._notes:
            add = partial(self._nft.add_elements, "inet", self.table, rules.keys_of(new))
            self._change(add, lambda: self.state._replace(notes=(*self._notes, *new)))
            self._notes |= new

    def forget(self, notes: Iterable[Note]) -> None:
        """Treat addresses as all others again. An unknown note is no error."""
        if gone := self._notes.intersection(notes):
            delete = partial(self._nft.delete_elements, "inet", self.table, rules.keys_of(gone))
            self._change(delete, lambda: self.state._replace(notes=tuple(self._notes - gone)))
            self._notes -= gone

    def _make(self, state: FirewallState, guarded: Guarded) -> None:
        if not state.networks and not any(guarded.values()):
            with suppress(FileNotFoundError):
                self._nft.run(rules.without(self.table))
            return
        text = rules.table(self.table, state, guarded, loopback6=not bridges_filter_ipv6())
        purpose, needs = "set the firewall's rules", "nf_tables, its NAT and fib"
        make_table(self._nft, text, purpose=purpose, needs=needs)

    def _with(self, ports: Mapping[_Key, PublishedPort]) -> FirewallState:
        networks = tuple(self._networks.values())
        return FirewallState(networks, tuple(ports.values()), tuple(self._notes))

    def _running(self, commands: str) -> Callable[[], None]:
        return partial(self._nft.run, commands)

    def _change(self, change: Callable[[], None], whole: Callable[[], FirewallState]) -> None:
        """Do *change*; where the table is not as we left it, make the *whole* instead."""
        try:
            change()
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.EEXIST}:
                raise
            self._make(whole(), self._forwarding.guarded)

    def _allow_loopback(self, ports: Iterable[PublishedPort]) -> None:
        for network in {port.network for port in ports if _is_for_loopback(port)} - self._loopback:
            if network in self._networks:
                allow_loopback(self._networks[network].bridge)
                self._loopback.add(network)


def _key(port: PublishedPort) -> _Key:
    return port.protocol, port.host_ip, port.host_port


def _is_for_loopback(port: PublishedPort) -> bool:
    return port.host_ip in {"0.0.0.0", "::", "::1"} or port.host_ip.startswith("127.")


def _forwarded(networks: Iterable[NetworkRules]) -> list[int]:
    outward = [network for network in networks if not network.internal]
    return [version for version in (4, 6) if any(one.has(version) for one in outward)]
