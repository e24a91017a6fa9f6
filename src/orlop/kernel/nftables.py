"""Packet filters: nftables, through its own library (libnftables(3)), found by name.

Rules are written in nft's language. The commands of one call are one transaction: all of
them are carried out, or none.
"""

import ctypes
import errno
import functools
import os
import socket
import struct
from collections.abc import Iterable
from ctypes import c_char_p, c_int, c_uint, c_uint32, c_void_p

from orlop.errors import UnsupportedError
from orlop.kernel import low_descriptors
from orlop.kernel.low_descriptors import FD_SETSIZE
from orlop.kernel.netlink.wire import HEADER, attribute, message, nested, string
from orlop.model.light import Any, NamedTuple

_LIBRARY = "libnftables.so.1"
_NETLINK_NETFILTER = 12
_FAMILIES = {"inet": 1, "bridge": 7}  # NFPROTO_*
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_NFNL_MSG_BATCH_BEGIN, _NFNL_MSG_BATCH_END = 16, 17
_NFT_MSG_NEWSETELEM, _NFT_MSG_DELSETELEM = 12, 14
_TABLE, _SET, _ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_NFTA_LIST_ELEM, _NFTA_SET_ELEM_KEY, _NFTA_DATA_VALUE = 1, 1, 1
_REQUEST, _ACK, _CREATE = 0x1, 0x4, 0x400  # NLM_F_*
_NLMSG_ERROR = 2
_GENERIC = struct.Struct(">BBH")  # nfgenmsg: family, version, resource
_ERROR = struct.Struct("=i")
_ANSWER_BYTES = 1 << 13
_SO_PROTOCOL = 38
_OUTPUT_HANDLE, _OUTPUT_JSON = 1 << 3, 1 << 4  # <nftables/libnftables.h> NFT_CTX_OUTPUT_*
_GUESS = "; did you mean "  # of the library, where a name is like another that is there
_NUMBERS = {os.strerror(number): number for number in errno.errorcode}


class _Library(NamedTuple):
    new: Any
    free: Any
    set_flags: Any
    keep_output: Any
    keep_error: Any
    run: Any
    output: Any
    error: Any


@functools.cache
def _library() -> _Library:
    try:
        found = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise UnsupportedError(
            f"no {_LIBRARY} on this host, which networks need",
            hint="install Debian's package libnftables1",
        ) from None

    def call(name: str, restype: Any, *argtypes: Any) -> Any:
        return ctypes.CFUNCTYPE(restype, *argtypes)((name, found))

    return _Library(
        new=call("nft_ctx_new", c_void_p, c_uint32),
        free=call("nft_ctx_free", None, c_void_p),
        set_flags=call("nft_ctx_output_set_flags", None, c_void_p, c_uint),
        keep_output=call("nft_ctx_buffer_output", c_int, c_void_p),
        keep_error=call("nft_ctx_buffer_error", c_int, c_void_p),
        run=call("nft_run_cmd_from_buffer", c_int, c_void_p, c_char_p),
        output=call("nft_ctx_get_output_buffer", c_char_p, c_void_p),
        error=call("nft_ctx_get_error_buffer", c_char_p, c_void_p),
    )


class Nftables:
    """A connection to the rules of one network namespace: the caller's when it is made.

    For one thread. *port* is the netlink address of its socket: notifications about our own
    changes come from there.

    Raises:
        UnsupportedError: the library is not installed.
        OSError: EPERM without CAP_NET_ADMIN, at the first change; EMFILE if the library gets
            no descriptor low enough, see kernel/low_descriptors.py.
    """

    def __init__(self) -> None:
        self._library = _library()
        self._context: Any = None
        self._socket: socket.socket | None = None  # the library's socket, once we know it
        self._uses_kept = low_descriptors.are_kept()
        try:
            self._open()
            self._library.keep_output(self._context)
            self._library.keep_error(self._context)
            self._library.run(self._context, b"list tables")  # this gives its socket an address
            self.port = _port_of(self._fd)
        except OSError:
            self.close()
            raise

    def _open(self) -> None:
        """Make the context. Another thread may take the descriptor that we free for it."""
        before = _netfilter_sockets()
        while True:
            is_last = not low_descriptors.are_kept()
            if not is_last:
                low_descriptors.give_up()
            self._context = self._library.new(0)
            if not self._context:
                raise OSError(errno.ENOMEM, "nftables: no context")
            made = [fd for inode, fd in _netfilter_sockets().items() if inode not in before]
            if len(made) != 1:
                raise OSError(errno.EAGAIN, "nftables: cannot tell which socket is the library's")
            self._fd = made[0]
            if self._fd < FD_SETSIZE:
                return
            self._library.free(self._context)
            self._context = None
            if is_last:
                raise OSError(errno.EMFILE, f"nftables: no descriptor below {FD_SETSIZE} is free")

    def close(self) -> None:
        """Close the connection; a second time is no error."""
        context, self._context = self._context, None
        if self._socket is not None:
            self._socket.close()
        if context:
            self._library.free(context)
            if self._uses_kept:
                low_descriptors.keep(1)

    def run(self, commands: str) -> None:
        """Run *commands* as one transaction. OSError with nft's reason; then nothing changes."""
        self._run(commands, 0)

    def add_elements(self, family: str, table: str, elements: Iterable[tuple[str, bytes]]) -> None:
        """Add elements, each a set's name and a key, to existing sets, as one transaction.

        It takes a fifth of the time of run(), which first asks the kernel for all tables. A
        key is in the kernel's format, with each field padded to a multiple of four bytes.

        Raises:
            OSError: nothing changes; ENOENT if a table or set does not exist.
        """
        self._change(_NFT_MSG_NEWSETELEM, family, table, elements)

    def delete_elements(
        self, family: str, table: str, elements: Iterable[tuple[str, bytes]]
    ) -> None:
        """Delete elements as one transaction; OSError ENOENT, and no change, if one is missing."""
        self._change(_NFT_MSG_DELSETELEM, family, table, elements)

    def _change(
        self, what: int, family: str, table: str, elements: Iterable[tuple[str, bytes]]
    ) -> None:
        """Send on the library's socket, which is idle between the library's commands."""
        kind, head = _SUBSYSTEM << 8 | what, _GENERIC.pack(_FAMILIES[family], 0, 0)
        bodies = [head + _element(table, name, key) for name, key in elements]
        if not bodies:
            return
        batch = _GENERIC.pack(0, 0, _SUBSYSTEM)
        messages = [message(_NFNL_MSG_BATCH_BEGIN, _REQUEST, 0, batch)]
        for number, body in enumerate(bodies, 1):
            flags = _REQUEST | _CREATE | (_ACK if number == len(bodies) else 0)
            messages.append(message(kind, flags, number, body))
        messages.append(message(_NFNL_MSG_BATCH_END, _REQUEST, len(bodies) + 1, batch))
        if self._socket is None:
            self._socket = socket.socket(fileno=os.dup(self._fd))
        self._socket.send(b"".join(messages))
        if refused := _refused(self._socket, len(bodies)):
            raise OSError(refused, f"nftables: {os.strerror(refused)}")

    def listing(self, command: str) -> str:
        """Return the output of *command* ("list chains") as libnftables-json(5), with handles."""
        told = self._run(command, _OUTPUT_JSON | _OUTPUT_HANDLE)
        return told[max(0, told.find("{")) :]  # a context's first answer has lines of text before

    def _run(self, commands: str, flags: int) -> str:
        self._library.set_flags(self._context, flags)
        failed = self._library.run(self._context, commands.encode())
        output = self._library.output(self._context)  # reading empties it
        complaint = self._library.error(self._context).decode(errors="replace")
        if failed:
            raise _refusal(complaint)
        return str(output.decode(errors="replace"))


def _refused(peer: socket.socket, last: int) -> int:
    """Read the answers up to number *last*; return the first errno. All have arrived."""
    refused = 0
    while True:
        try:
            answer = peer.recv(_ANSWER_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return refused or errno.EPROTO
        _, kind, _, number, _ = HEADER.unpack_from(answer)
        if kind == _NLMSG_ERROR:
            refused = refused or -_ERROR.unpack_from(answer, HEADER.size)[0]
            if number == last:
                return refused


def _element(table: str, name: str, key: bytes) -> bytes:
    value = nested(_NFTA_SET_ELEM_KEY, attribute(_NFTA_DATA_VALUE, key))
    elements = nested(_ELEMENTS, nested(_NFTA_LIST_ELEM, value))
    return string(_TABLE, table) + string(_SET, name) + elements


def _refusal(complaint: str) -> OSError:
    """Return nft's first error; the quoted line and a marker follow it in *complaint*."""
    first = next((line for line in complaint.splitlines() if "Error:" in line), complaint)
    reason = first.partition("Error:")[2].strip() or first.strip() or "no reason given"
    told = reason.partition(_GUESS)[0].rpartition(": ")[2]
    number = _NUMBERS.get(told, errno.EINVAL)
    return OSError(number, f"nftables: {reason}")


def _netfilter_sockets() -> dict[str, int]:
    """Return the descriptors of this process's netfilter sockets, by inode.

    The library does not say which socket is its own, so the caller compares before and after.
    """
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            inode = os.readlink(f"/proc/self/fd/{name}")
            if inode.startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as peer:
                    if (
                        peer.family == socket.AF_NETLINK
                        and peer.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL) == _NETLINK_NETFILTER
                    ):
                        found[inode] = int(name)
        except OSError:  # another thread has closed it
            continue
    return found


def _port_of(fd: int) -> int:
    """Return the netlink address of socket *fd*."""
    with socket.socket(fileno=os.dup(fd)) as peer:
        port: int = peer.getsockname()[0]
        return port
