"""The engine's table: made whole, kept by elements, put back when somebody removed it."""

import errno
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from orlop.errors import InvalidArgumentError
from orlop.kernel.nftables import Nftables
from orlop.network.firewall import rules
from orlop.network.firewall.forwarding import Forwarding, allow_loopback, refuse_advertisements
from orlop.network.firewall.state import FirewallState, NetworkRules, PublishedPort


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
        self._forwarding = Forwarding(folder / "forwarding")
        self._networks: dict[str, NetworkRules] = {}
        self._ports: dict[tuple[str, str, int], PublishedPort] = {}
        self._loopback: set[str] = set()  # networks whose bridge takes answers to 127.0.0.0/8

    @property
    def port(self) -> int:
        """The netlink address that our own changes come from."""
        return self._nft.port

    @property
    def bridges(self) -> frozenset[str]:
        """The bridges that the table speaks of."""
        return frozenset(network.bridge for network in self._networks.values())

    def close(self) -> None:
        self._nft.close()

    def apply(self, state: FirewallState) -> None:
        """Make the table what *state* says, in one transaction; without networks it goes.

        The bridges have to be there already. Connections that pass now and may still
        pass are not cut.
        """
        versions = _forwarded(state.networks)
        lacking = self._forwarding.lacking(versions)
        if lacking:
            self._forwarding.remember(lacking, [network.bridge for network in state.networks])
        if state.networks or any(self._forwarding.guarded.values()):
            self._nft.run(rules.table(self.table, state, self._forwarding.guarded))
        else:
            with suppress(FileNotFoundError):
                self._nft.run(rules.without(self.table))
        self._networks = {network.id: network for network in state.networks}
        self._ports = {_key(port): port for port in state.ports}
        self._forwarding.enable(lacking)
        self._loopback.clear()
        for network in state.networks:
            refuse_advertisements(network.bridge)
        self._allow_loopback(state.ports)

    def restore(self) -> None:
        """Apply again what was told last, because somebody changed it."""
        self.apply(self.state)

    @property
    def state(self) -> FirewallState:
        """What was told last."""
        return FirewallState(tuple(self._networks.values()), tuple(self._ports.values()))

    def add_network(self, network: NetworkRules) -> None:
        """Add a network, whose bridge is there; one that is known is replaced."""
        others = [one for one in self._networks.values() if one.id != network.id]
        whole = FirewallState((*others, network), tuple(self._ports.values()))
        known = network.id in self._networks
        if known or not others or self._forwarding.lacking(_forwarded([network])):
            self.apply(whole)
            return
        self._change(rules.added(self.table, rules.of_networks([network])), whole)
        self._networks[network.id] = network
        refuse_advertisements(network.bridge)

    def remove_network(self, network_id: str) -> None:
        """Remove a network and its ports; what is not known is no error."""
        if network_id in self._networks:
            networks = [one for one in self._networks.values() if one.id != network_id]
            ports = [port for port in self._ports.values() if port.network != network_id]
            self.apply(FirewallState(tuple(networks), tuple(ports)))

    def publish(self, ports: Sequence[PublishedPort]) -> None:
        """Let *ports* of the host lead to a container, all or none."""
        merged = {**self._ports, **{_key(port): port for port in ports}}
        elements = rules.of_ports(port for port in ports if self._ports.get(_key(port)) != port)
        if not any(elements.values()):
            return
        if any(_key(port) in self._ports for port in ports):  # a map's value is not changed in place
            self.apply(FirewallState(tuple(self._networks.values()), tuple(merged.values())))
            return
        whole = FirewallState(tuple(self._networks.values()), tuple(merged.values()))
        self._change(rules.added(self.table, elements), whole)
        self._ports = merged
        self._allow_loopback(ports)

    def withdraw(self, ports: Iterable[PublishedPort]) -> None:
        """Let *ports* of the host lead nowhere; those that do not lead anywhere are no error."""
        gone = [port for port in ports if self._ports.get(_key(port)) == port]
        left = {key: port for key, port in self._ports.items() if port not in gone}
        whole = FirewallState(tuple(self._networks.values()), tuple(left.values()))
        commands = rules.removed(self.table, rules.of_ports(gone))
        if commands:
            self._change("".join(commands), whole)
        self._ports = left

    def _change(self, commands: str, whole: FirewallState) -> None:
        """Run *commands*; where the table is not as we left it, apply the *whole* instead."""
        try:
            self._nft.run(commands)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.EEXIST}:
                raise
            self.apply(whole)

    def _allow_loopback(self, ports: Iterable[PublishedPort]) -> None:
        for port in ports:
            if port.network not in self._loopback and port.network in self._networks:
                if port.host_ip == "0.0.0.0" or port.host_ip.startswith("127."):
                    allow_loopback(self._networks[port.network].bridge)
                    self._loopback.add(port.network)


def _key(port: PublishedPort) -> tuple[str, str, int]:
    return port.protocol, port.host_ip, port.host_port


def _forwarded(networks: Iterable[NetworkRules]) -> list[int]:
    outward = [network for network in networks if not network.internal]
    return [version for version in (4, 6) if any(one.has(version) for one in outward)]
