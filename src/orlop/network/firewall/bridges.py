"""Tables of nftables, and the interfaces that their rules name."""

import errno
import socket

from orlop.errors import UnsupportedError
from orlop.kernel.nftables import Nftables

_LACKING = frozenset((errno.EPERM, errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT))


def make_table(
    nft: Nftables, commands: str, *, purpose: str, needs: str = "nf_tables for bridges"
) -> None:
    """Do *commands*, which make a table; UnsupportedError where the kernel does not let us."""
    try:
        nft.run(commands)
    except OSError as error:
        if error.errno not in _LACKING:
            raise
        raise UnsupportedError(
            f"cannot {purpose}: {error.strerror}",
            hint=f"this needs CAP_NET_ADMIN, and a kernel with {needs}",
        ) from error


def is_there(interface: str) -> bool:
    """Whether this network namespace has an interface of that name."""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True
