"""Settings of one interface under /proc/sys/net: of the namespace that this thread is in."""

import re
from collections.abc import Mapping

from orlop.errors import InvalidArgumentError, UnsupportedError

_PART = re.compile(r"[a-zA-Z0-9_-]+")
_INTERFACE = "IFNAME"


def write(path: str, value: str) -> None:
    """Write below /proc/sys/net; FileNotFoundError where there is no such setting."""
    with open(f"/proc/sys/net/{path}", "wb", buffering=0) as file:
        file.write(value.encode())


def read(path: str) -> str:
    """Read below /proc/sys/net; "" where there is no such setting."""
    try:
        with open(f"/proc/sys/net/{path}", "rb", buffering=0) as file:
            return file.read(256).decode().strip()
    except FileNotFoundError:
        return ""


def parse(settings: Mapping[str, str], interface: str) -> list[tuple[str, str]]:
    """Return paths and values of "net.ipv4.conf.IFNAME.rp_filter", IFNAME being *interface*."""
    return [(_path(name, interface), value) for name, value in settings.items()]


def apply(settings: list[tuple[str, str]]) -> None:
    """Write them; an OrlopError that names the first that the kernel has not, or refuses."""
    for path, value in settings:
        try:
            write(path, value)
        except FileNotFoundError as error:
            name = path.replace("/", ".")
            raise UnsupportedError(f"this kernel has no setting net.{name}") from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            name = path.replace("/", ".")
            raise InvalidArgumentError(f"net.{name} cannot be {value!r}: {reason}") from error


def _path(name: str, interface: str) -> str:
    first, *parts = name.split(".")
    known = all(_PART.fullmatch(part) for part in parts)
    if first != "net" or not known or _INTERFACE not in parts:
        raise InvalidArgumentError(
            f"{name!r} is no setting of an interface",
            hint="one looks like net.ipv4.conf.IFNAME.log_martians",
        )
    return "/".join(interface if part == _INTERFACE else part for part in parts)
