"""Hold the host's ports for containers, by sockets that are bound and do nothing.

So no other program can take a port that leads to a container, and if one has it already the
container's start fails. The sockets end with the engine; the next one binds them again.
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from orlop.errors import AlreadyExistsError, ExhaustedError, InvalidArgumentError
from orlop.model.network import PortMapping, Protocol

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SCTP = 132
_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, _SCTP),
}
_NO_PROTOCOL = frozenset((errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT))


class PortRequest(NamedTuple):
    """A request for a host port between *first* and *last* for a container's port.

    Both 0: any free one. *host_ip* "" means every address of the host, IPv4 and IPv6.
    """

    protocol: Protocol
    container_port: int
    first: int = 0
    last: int = 0
    host_ip: str = ""


class Reservation:
    """Ports that are held until close()."""

    def __init__(self, mappings: Sequence[PortMapping], held: ExitStack) -> None:
        self.mappings = tuple(mappings)
        self._held = held

    def close(self) -> None:
        """Release the ports; a second time is no error."""
        self._held.close()


class Ports:
    """The ports that one engine holds, in the caller's network namespace."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, int], set[str]] = {}  # by protocol and port: addresses
        self._next = 0

    def reserve(self, requests: Iterable[PortRequest]) -> Reservation:
        """Hold a port for each of *requests*, or none at all.

        Raises:
            AlreadyExistsError: a port is taken, by a container or another program.
            ExhaustedError: no port is free in the range.
            InvalidArgumentError: this host has no such address, or the port is invalid.
        """
        with ExitStack() as held:
            mappings = [self._one(request, held) for request in requests]
            return Reservation(mappings, held.pop_all())

    def keep(self, mappings: Iterable[PortMapping]) -> tuple[Reservation, list[PortMapping]]:
        """Hold running containers' ports again; also return those that others have taken."""
        lost: list[PortMapping] = []
        kept: list[PortMapping] = []
        with ExitStack() as held:
            for mapping in mappings:
                try:
                    self._hold(mapping, held)
                    kept.append(mapping)
                except (AlreadyExistsError, InvalidArgumentError):
                    lost.append(mapping)
            return Reservation(kept, held.pop_all()), lost

    def _one(self, request: PortRequest, held: ExitStack) -> PortMapping:
        if not 0 < request.container_port < 1 << 16:
            raise InvalidArgumentError(f"{request.container_port} is no port number")
        if request.first and not 0 < request.first <= request.last < 1 << 16:
            raise InvalidArgumentError(f"{request.first}-{request.last} is no range of ports")
        refused: AlreadyExistsError | None = None
        for port in self._candidates(request):
            mapping = PortMapping(
                protocol=request.protocol,
                container_port=request.container_port,
                host_port=port,
                host_ip=request.host_ip,
            )
            try:
                self._hold(mapping, held)
            except AlreadyExistsError as error:
                refused = error
            else:
                return mapping
        if refused is not None and 0 < request.first == request.last:
            raise refused
        if refused is not None and request.first:
            where = f"{request.host_ip or '0.0.0.0'}:{request.first}-{request.last}"
            raise AlreadyExistsError(f"Bind for {where} failed: all ports are already allocated")
        raise ExhaustedError(
            f"no {request.protocol} port of this host is free", hint=f"see {_RANGE}"
        )

    def _candidates(self, request: PortRequest) -> Iterator[int]:
        if request.first:
            yield from range(request.first, request.last + 1)
            return
        low, high = (int(word) for word in _RANGE.read_text().split())
        start = self._next if low <= self._next <= high else low
        for port in (*range(start, high + 1), *range(low, start)):
            self._next = port + 1  # do not use a port again right after its release
            yield port

    def _hold(self, mapping: PortMapping, held: ExitStack) -> None:
        """Hold the port on all addresses of *mapping*, or on none."""
        with ExitStack() as undo:
            for address in _addresses(mapping.host_ip):
                self._claim(mapping, address)
                undo.callback(self._let_go, mapping, address)
                made = _bind(mapping.protocol, address, mapping.host_port)
                if made is not None:
                    undo.enter_context(made)
            held.push(undo.pop_all())

    def _claim(self, mapping: PortMapping, address: str) -> None:
        """Record the owner: protocols without sockets are only known by this."""
        taken = self._taken.setdefault((mapping.protocol, mapping.host_port), set())
        every = "::" if ":" in address else "0.0.0.0"
        same = {one for one in taken if (":" in one) == (":" in address)}
        if same if address == every else same & {address, every}:
            raise _allocated(address, mapping.host_port)
        taken.add(address)

    def _let_go(self, mapping: PortMapping, address: str) -> None:
        taken = self._taken[mapping.protocol, mapping.host_port]
        taken.discard(address)
        if not taken:
            del self._taken[mapping.protocol, mapping.host_port]


def _addresses(host_ip: str) -> tuple[str, ...]:
    if not host_ip:
        return ("0.0.0.0", "::")
    try:
        return (str(ipaddress.ip_address(host_ip)),)
    except ValueError as error:
        raise InvalidArgumentError(f"{host_ip!r} is no IP address") from error


def _bind(protocol: str, address: str, port: int) -> socket.socket | None:
    """Return a socket bound to the port; None if this host lacks the protocol or family."""
    kind, number = _KINDS[protocol]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        made = socket.socket(family, kind, number)
    except OSError as error:
        if error.errno in _NO_PROTOCOL:
            return None
        raise
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _take(made, address, port)
    except OSError as error:
        made.close()
        if address == "::" and error.errno == errno.EADDRNOTAVAIL:  # IPv6 is switched off
            return None
        raise _refusal(error, address, port) from error
    except BaseException:
        made.close()
        raise
    return made


def _take(made: socket.socket, address: str, port: int) -> None:
    """Bind, as a server does; for TCP also despite old connections that are closing.

    That needs SO_REUSEADDR, with which other programs that use it could bind too, until one
    listens. So the socket listens for a moment, when the kernel checks again, and then drops
    the option.
    """
    if made.type != socket.SOCK_STREAM or made.proto == _SCTP:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        made.bind((address, port))
        return
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(0)
    made.shutdown(socket.SHUT_RD)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _refusal(error: OSError, address: str, port: int) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return AlreadyExistsError(
            f"Bind for {_written(address, port)} failed: address already in use"
        )
    if error.errno in {errno.EADDRNOTAVAIL, errno.EINVAL}:
        return InvalidArgumentError(f"no address {address} on this host to publish port {port} on")
    return OSError(
        error.errno, f"bind to {_written(address, port)}: {os.strerror(error.errno or 0)}"
    )


def _allocated(address: str, port: int) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"Bind for {_written(address, port)} failed: port is already allocated"
    )


def _written(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
