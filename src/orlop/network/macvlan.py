"""Driver `macvlan`: containers on one of the host's networks, each with a MAC address."""

from __future__ import annotations

import errno
from collections.abc import Collection
from contextlib import ExitStack, suppress

from orlop.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, UnsupportedError
from orlop.kernel.netlink import kinds, links
from orlop.kernel.netlink.kinds import MacvlanMode
from orlop.kernel.netlink.links import Link, Settings
from orlop.network import options, own_interface, ownership
from orlop.network.inside import Plan
from orlop.network.namespace import Home
from orlop.network.refusal import refusals

TYPE_CHECKING = False  # programs that start often pass plain values: network/cni/plugin
if TYPE_CHECKING:
    from orlop.model.network import Endpoint, Network

_KIND = "macvlan"
_PREFIX = "om-"
_MODES = {
    "bridge": MacvlanMode.BRIDGE,
    "private": MacvlanMode.PRIVATE,
    "vepa": MacvlanMode.VEPA,
    "passthru": MacvlanMode.PASSTHRU,
}
_STAND_INS = ("dummy", "ifb")  # the parent of a network without one: the first that works


class Macvlan:
    """Option `parent` is the host's interface; without it containers reach only each other."""

    name = "macvlan"

    def __init__(self, home: Home, engine: str) -> None:
        self._home = home
        self._engine = engine

    def check(self, network: Network) -> Network:
        """Return *network* with its parent's MTU, and internal if it has no parent."""
        import msgspec

        _mode(network)
        parent = network.options.get(options.PARENT, "")
        mtu = options.mtu(network.options, network.mtu, ipv6=network.ipv6)
        if not parent:
            return msgspec.structs.replace(network, internal=True, mtu=mtu or 1500)
        if network.internal:
            raise InvalidArgumentError("an internal macvlan network has no parent")
        link = self._parent(options.interface_name(parent))
        if mtu > link.mtu:
            raise InvalidArgumentError(f"an MTU of {mtu} is more than that of {parent}: {link.mtu}")
        return msgspec.structs.replace(network, mtu=mtu or link.mtu)

    def create(self, network: Network) -> None:
        """Check that the parent exists, or make a stand-in."""
        with refusals(f"make network {network.name}", lacking="macvlan"):
            self._base(network)

    def remove(self, network: Network) -> None:
        if network.options.get(options.PARENT):
            return
        link = links.find(self._home.netlink, ownership.device_name(_PREFIX, network))
        if link is not None and ownership.owned_by(self._engine, link.alias) == network.id:
            self._remove(link.ifindex)

    def attach(self, network: Network, endpoint: Endpoint, namespace: int) -> None:
        own_interface.refuse_limit(endpoint, self.name)
        with refusals(f"attach {endpoint.interface}", lacking="macvlan"):
            plan = Plan(endpoint)
            base = self._base(network)
            with own_interface.looking(self._home, namespace, endpoint, _KIND) as there:
                if not there:
                    self._make(network, endpoint, namespace, base)
                interface = plan.apply(self._home, namespace, again=there)
            self._home.soon(interface.announce)

    def detach(self, network: Network, endpoint: Endpoint, namespace: int | None) -> None:
        del network
        own_interface.remove(self._home, namespace, endpoint, _KIND)

    def limit(self, network: Network, endpoint: Endpoint) -> None:
        del network
        own_interface.refuse_limit(endpoint, self.name)

    def strays(self, networks: Collection[Network], endpoints: Collection[Endpoint]) -> list[str]:
        del endpoints
        known = {network.id for network in networks}
        return [
            link.name
            for link in links.each(self._home.netlink)
            if link.name.startswith(_PREFIX)
            and ownership.owned_by(self._engine, link.alias) not in (None, *known)
        ]

    def _make(self, network: Network, endpoint: Endpoint, namespace: int, base: Link) -> None:
        settings = Settings(
            name=endpoint.interface,
            namespace=namespace,
            link=base.ifindex,
            mac=endpoint.mac,
            mtu=endpoint.mtu or network.mtu,
        )
        request = links.make(_KIND, kinds.macvlan(_mode(network)), settings)
        try:
            self._home.netlink.ask(request)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EBUSY) and base.master:
                raise InvalidArgumentError(
                    f"{base.name} is a port of a bridge, and can be no parent"
                ) from error
            raise

    def _base(self, network: Network) -> Link:
        parent = network.options.get(options.PARENT, "")
        if not parent:
            return self._stand_in(network)
        link = self._parent(parent)
        if not link.up:
            self._home.netlink.ask(links.change(link.ifindex, Settings(up=True)))
        return link

    def _parent(self, name: str) -> Link:
        link = links.find(self._home.netlink, name)
        if link is None:
            raise NotFoundError(
                f"there is no network interface {name} to be the parent",
                hint="make it first: VLAN interfaces are not made here",
            )
        return link

    def _stand_in(self, network: Network) -> Link:
        name = ownership.device_name(_PREFIX, network)
        link = links.find(self._home.netlink, name)
        with ExitStack() as undo:
            if link is None:
                undo.callback(self._remove, name)
                self._make_stand_in(network, name)
            elif ownership.owned_by(self._engine, link.alias) != network.id:
                raise AlreadyExistsError(f"the host has a network interface {name} already")
            settings = Settings(up=True, mtu=network.mtu)
            _, answer = self._home.netlink.ask(links.change(name, settings), links.look(name))
            undo.pop_all()
        return links.read(answer)

    def _remove(self, of: int | str) -> None:
        with suppress(OSError):
            self._home.netlink.ask(links.remove(of))

    def _make_stand_in(self, network: Network, name: str) -> None:
        alias = links.change(name, Settings(alias=ownership.alias(self._engine, network.id)))
        for kind in _STAND_INS:
            try:
                self._home.netlink.ask(links.make(kind, b"", Settings(name=name, queues=1)), alias)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
            else:
                return
        raise UnsupportedError(
            "this kernel has no dummy interface for a network without parent",
            hint="load the module dummy, or name a parent with -o parent=",
        )


def _mode(network: Network) -> MacvlanMode:
    text = network.options.get(options.MACVLAN_MODE) or "bridge"
    if text not in _MODES:
        raise InvalidArgumentError(
            f"there is no macvlan mode {text!r}", hint=f"there are: {', '.join(_MODES)}"
        )
    return _MODES[text]
