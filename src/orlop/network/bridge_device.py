"""The bridge of a network: make, repair, find, remove. For every driver that has one."""

from __future__ import annotations

from contextlib import ExitStack, suppress

from orlop.errors import AlreadyExistsError
from orlop.kernel.netlink import addresses, kinds, links
from orlop.kernel.netlink.links import Link, Settings
from orlop.network import options, ownership
from orlop.network.namespace import Home
from orlop.network.refusal import refusals

TYPE_CHECKING = False  # programs that start often pass plain values: network/cni/plugin
if TYPE_CHECKING:
    from orlop.model.network import Network

_PREFIX = "or-"
_ROUTED_ELSEWHERE = "isolated"
_MARK = 0x6F  # of the addresses that we add to an existing bridge


def name_of(network: Network) -> str:
    """Return the bridge's name: from the option, or made from the network's id."""
    given = network.options.get(options.BRIDGE_NAME)
    return given or ownership.device_name(_PREFIX, network)


def ensure(home: Home, engine: str, network: Network) -> int:
    """Return the index of the network's bridge, made or repaired: up, with its gateways.

    An existing bridge that no engine made is used as it is, and gets the gateways'
    addresses that it lacks. AlreadyExistsError if the name belongs to somebody else.
    """
    name = name_of(network)
    with refusals(f"make bridge {name}", lacking="bridge"), ExitStack() as undo:
        link = links.find(home.netlink, name)
        if link is None:
            link = _make(home, engine, network)
            undo.callback(_undo, home, link.ifindex)
        elif _is_foreign(link, engine, network):
            home.netlink.ask(links.change(link.ifindex, Settings(up=True)))
            _lend_gateways(home, link.ifindex, network)
            undo.pop_all()
            return link.ifindex
        else:
            mtu = Settings(mtu=network.mtu if network.mtu != link.mtu else 0, up=True)
            home.netlink.ask(links.change(link.ifindex, mtu))
            _set(home, name, network)
        _give_gateways(home, link.ifindex, network)
        undo.pop_all()
    return link.ifindex


def find(home: Home, engine: str, network: Network) -> int | None:
    """Return the index of the network's bridge, or None if it is gone or not ready.

    AlreadyExistsError if the name belongs to somebody else.
    """
    link = links.find(home.netlink, name_of(network))
    if link is None:
        return None
    _is_foreign(link, engine, network)
    return link.ifindex if link.up else None


def remove(home: Home, engine: str, network: Network) -> None:
    """Remove the bridge; from one that we did not make remove only our addresses."""
    name = name_of(network)
    with refusals(f"remove bridge {name}"):
        link = links.find(home.netlink, name)
        if link is None or link.kind != "bridge":
            return
        owner = ownership.owned_by(engine, link.alias)
        if owner == network.id:
            _undo(home, link.ifindex)
        elif not ownership.is_an_engine(link.alias):
            ours = {one.address for one in _addresses(home, link.ifindex) if one.mark == _MARK}
            for address in ours.intersection(gateways(network)):
                with suppress(OSError):
                    home.netlink.ask(addresses.remove(link.ifindex, address))


def gateways(network: Network) -> list[str]:
    """Return the bridge's own interface addresses."""
    found = []
    for subnet in network.subnets:
        ipv6 = ":" in subnet.subnet
        inhibited = not ipv6 and options.flag(network.options, options.INHIBIT_IPV4, default=False)
        mode = network.options.get(options.GATEWAY_MODES[ipv6], "")
        if subnet.gateway and not inhibited and mode != _ROUTED_ELSEWHERE:
            found.append(f"{subnet.gateway}/{subnet.subnet.partition('/')[2]}")
    return found


def has_ipv6(network: Network) -> bool:
    return network.ipv6 or any(":" in subnet.subnet for subnet in network.subnets)


def _make(home: Home, engine: str, network: Network) -> Link:
    name = name_of(network)
    settings = Settings(name=name, mac=_mac(network), mtu=network.mtu)
    with ExitStack() as undo:
        undo.callback(_undo, home, name)  # we know that there was none before
        alias = links.change(name, Settings(alias=ownership.alias(engine, network.id)))
        home.netlink.ask(links.make("bridge", kinds.bridge(), settings), alias)  # marks it as ours
        _set(home, name, network)
        _, answer = home.netlink.ask(links.change(name, Settings(up=True)), links.look(name))
        undo.pop_all()
    return links.read(answer)


def _set(home: Home, name: str, network: Network) -> None:
    """Accept no router advertisements on the network, and use no IPv6 there unless requested."""
    if not home.sysctl.read(f"ipv6/conf/{name}/disable_ipv6"):
        return
    if not has_ipv6(network):
        home.sysctl.apply([(f"ipv6/conf/{name}/disable_ipv6", "1")])
        return
    wanted = (("accept_ra", "0"), ("accept_dad", "0"), ("autoconf", "0"), ("disable_ipv6", "0"))
    home.sysctl.apply([(f"ipv6/conf/{name}/{key}", value) for key, value in wanted])


def _give_gateways(home: Home, index: int, network: Network) -> None:
    home.netlink.ask(*(addresses.add(index, address) for address in gateways(network)))


def _lend_gateways(home: Home, index: int, network: Network) -> None:
    """Add missing gateways to a foreign bridge, marked so that we can remove them later."""
    there = {one.address for one in _addresses(home, index)}
    lacking = (address for address in gateways(network) if address not in there)
    home.netlink.ask(*(addresses.add(index, address, mark=_MARK) for address in lacking))


def _addresses(home: Home, index: int) -> list[addresses.Address]:
    return [one for one in addresses.each(home.netlink, index) if one.ifindex == index]


def _is_foreign(link: Link, engine: str, network: Network) -> bool:
    """Whether no engine made the bridge; AlreadyExistsError if it cannot be used."""
    if link.kind != "bridge":
        raise AlreadyExistsError(f"{link.name} is a network interface, and no bridge")
    if not ownership.is_an_engine(link.alias):
        return True
    if ownership.owned_by(engine, link.alias) != network.id:
        raise AlreadyExistsError(f"bridge {link.name} belongs to another network")
    return False


def _mac(network: Network) -> str:
    """Return the same address each time; otherwise the bridge's would change with its ports."""
    import hashlib

    digest = hashlib.sha256(network.id.encode()).digest()
    return f"02:{digest[:5].hex(':')}"


def _undo(home: Home, of: int | str) -> None:
    with suppress(OSError):
        home.netlink.ask(links.remove(of))
