"""The guest's network card, as the host describes it."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from orlop.errors import InvalidArgumentError
from orlop.kernel.loopback import raise_loopback
from orlop.kernel.netlink import addresses, links, routes
from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.links import Settings

_CARD = "eth0"


def write_sysctl(key: str, value: str) -> None:
    """Set a parameter of this network namespace, which is the container's, too."""
    path = key if "/" in key else key.replace(".", "/")
    parts = path.split("/")
    if parts[0] != "net" or ".." in parts:
        raise InvalidArgumentError(f"sysctl {key!r} is not of a network")
    with open(f"/proc/sys/{path}", "w") as file:
        file.write(value)


def set_up(card: Mapping[str, Any]) -> None:
    """Bring up loopback and card. Raises OSError if the kernel refuses an address or a route."""
    raise_loopback()
    has_ipv6 = any(":" in address for address in card["addresses"])
    for name, value in (("disable_ipv6", not has_ipv6), ("accept_ra", 0), ("accept_dad", 0)):
        with suppress(FileNotFoundError), open(f"/proc/sys/net/ipv6/conf/{_CARD}/{name}", "w") as f:
            f.write(str(int(value)))
    with Netlink() as netlink:
        found = links.find(netlink, _CARD)
        if found is None:
            raise FileNotFoundError("the virtual machine has no network card")
        index, name = found.ifindex, card["name"]
        own = Settings(mac=card["mac"], mtu=card["mtu"], name="" if name == _CARD else name)
        netlink.ask(
            links.change(index, own),
            links.change(index, Settings(up=True, announces=True)),
            *(addresses.add(index, address) for address in card["addresses"]),
            *(
                routes.add(routes.Route(destination, gateway, index, on_link=on_link))
                for destination, gateway, on_link in card["routes"]
            ),
        )
