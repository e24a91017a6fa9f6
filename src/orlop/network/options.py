"""Parse a network's options, which are Docker's, and check names of interfaces."""

from collections.abc import Mapping

from orlop.errors import InvalidArgumentError

MTU = "com.docker.network.driver.mtu"
BRIDGE_NAME = "com.docker.network.bridge.name"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
INHIBIT_IPV4 = "com.docker.network.bridge.inhibit_ipv4"
GATEWAY_MODES = (
    "com.docker.network.bridge.gateway_mode_ipv4",
    "com.docker.network.bridge.gateway_mode_ipv6",
)
SPOOFING = "spoofing"  # containers may send from addresses of others
METADATA = "metadata"  # containers may reach cloud metadata
NEIGHBOURS = "icc"  # of an endpoint: it and other containers of its network reach each other
#: Drivers that give each container a port on a bridge of this host.
BRIDGED = ("bridge", "tap", "vxlan")
PARENT = "parent"
MACVLAN_MODE = "macvlan_mode"

_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
_LEAST_MTU, _LEAST_MTU_IPV6, _MOST_MTU = 68, 1280, 65535
_LONGEST_NAME = 15


def flag(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Return the boolean option *name*, in any of Go's spellings."""
    text = options.get(name, "")
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text:
        raise InvalidArgumentError(f"option {name} is neither true nor false: {text!r}")
    return default


def mtu(options: Mapping[str, str], given: int, *, ipv6: bool) -> int:
    """Return the MTU from the option or from *given*, 0 if there is neither."""
    text = options.get(MTU, "")
    if text and not (text.isascii() and text.isdigit()):
        raise InvalidArgumentError(f"option {MTU} is no number: {text!r}")
    value = int(text or given)
    least = _LEAST_MTU_IPV6 if ipv6 else _LEAST_MTU
    if value and not least <= value <= _MOST_MTU:
        raise InvalidArgumentError(f"an MTU of {value} is not between {least} and {_MOST_MTU}")
    return value


def interface_name(text: str) -> str:
    """Return *text* if it is valid as an interface's name; otherwise InvalidArgumentError."""
    size = len(text.encode())
    bad = any(c in "/:%" or c.isspace() or not c.isprintable() for c in text)
    if not 0 < size <= _LONGEST_NAME or bad or text in (".", "..", "all", "default", "lo"):
        raise InvalidArgumentError(
            f"{text!r} is no name for a network interface", hint="up to 15 bytes, no / : % or space"
        )
    return text
