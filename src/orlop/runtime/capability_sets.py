"""Which capabilities a container gets: Docker's default set, with changes, or all."""

from orlop.errors import InvalidArgumentError
from orlop.kernel.capabilities import BIT, NAMES, bounding
from orlop.model.light import Iterable

#: Docker's. https://docs.docker.com/engine/security/#linux-kernel-capabilities
DEFAULT = frozenset(
    (
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    )
)


def everything() -> tuple[str, ...]:
    """Return every capability that we have, in the kernel's order."""
    ours = bounding()
    return tuple(name for name in NAMES if ours >> BIT[name] & 1)


def adjusted(add: Iterable[str], drop: Iterable[str]) -> tuple[str, ...]:
    """Return the default set with *add* and without *drop*, in the kernel's order.

    Names are as users write them: "net_admin", "CAP_NET_ADMIN", "ALL". A name that is both
    added and dropped is dropped; a name that is added survives a dropped "ALL".

    Raises:
        InvalidArgumentError: there is no such capability.
    """
    added, dropped = {_name(name) for name in add}, {_name(name) for name in drop}
    start = set(everything()) if "ALL" in added else set(DEFAULT)
    if "ALL" in dropped:
        start = set()
    wanted = (start | added) - dropped
    return tuple(name for name in NAMES if name in wanted)


def _name(text: str) -> str:
    name = text.upper()
    if name in ("ALL", "CAP_ALL"):
        return "ALL"
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in BIT:
        raise InvalidArgumentError(
            f"unknown capability {text!r}", hint="capabilities(7) has the names"
        )
    return name
