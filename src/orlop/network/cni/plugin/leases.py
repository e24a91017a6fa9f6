"""Allocated addresses, on disk: each is a symbolic link, from address to owner.

    FOLDER/NETWORK/10.0.0.2 -> CONTAINER@INTERFACE
    FOLDER/NETWORK/last.0   -> 10.0.0.2, where the next search of that range set begins

symlink(2) takes an address, or finds it taken, atomically. A lock on the folder makes sure
that an attachment gets all of its addresses, or none. The folder is in /run: a reboot removes
the leases together with the namespaces.
"""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from orlop.errors import AlreadyExistsError, ExhaustedError, InvalidArgumentError, OrlopError
from orlop.model.light import NamedTuple
from orlop.network.cni.result import family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

FOLDER = "/run/orlop-cni/leases"
_MOST_RANGES = 100


class Range(NamedTuple):
    """The addresses *first* to *last* of a subnet, as numbers; the gateway is not allocated."""

    subnet: str
    prefix: int
    version: int
    first: int
    last: int
    gateway: int

    def text(self, number: int) -> str:
        """Return the address with that *number*."""
        size = 4 if self.version == 4 else 16
        return inet_ntop(AF_INET if size == 4 else AF_INET6, number.to_bytes(size, "big"))

    def has(self, value: int) -> bool:
        """Whether it may allocate the address with that number."""
        return self.first <= value <= self.last and value != self.gateway

    def size(self) -> int:
        """Return how many addresses it can allocate."""
        return self.last - self.first + 1 - (self.first <= self.gateway <= self.last)


def number(address: str) -> int:
    """Return the number of an address."""
    packed = inet_pton(AF_INET if family(address) == 4 else AF_INET6, address)
    return int.from_bytes(packed, "big")


def parse_range(document: Any) -> Range:
    """Return a range of a configuration; InvalidArgumentError says what is wrong."""
    if not isinstance(document, dict) or not isinstance(document.get("subnet"), str):
        raise InvalidArgumentError("a range of addresses has no subnet")
    subnet = document["subnet"]
    version = family(subnet)
    bits = 32 if version == 4 else 128
    bare, slash, length = subnet.partition("/")
    if not slash:
        raise InvalidArgumentError(f"subnet {subnet} has no prefix length")
    base, prefix = number(bare), int(length)
    hosts = bits - prefix
    if base & ((1 << hosts) - 1):
        raise InvalidArgumentError(f"{subnet} is no subnet: it has host bits")
    if hosts < 2:
        raise InvalidArgumentError(f"subnet {subnet} is too small to give addresses out of")
    end = base + (1 << hosts) - 1 - (version == 4)  # IPv4's last one is the broadcast address
    given = {
        key: _within(document.get(key), subnet, version, base, hosts)
        for key in ("rangeStart", "rangeEnd", "gateway")
    }
    first, last = given["rangeStart"] or base + 1, min(given["rangeEnd"] or end, end)
    if first > last:
        raise InvalidArgumentError(f"the range of {subnet} ends before it begins")
    return Range(subnet, prefix, version, max(first, base + 1), last, given["gateway"] or base + 1)


def _within(text: Any, subnet: str, version: int, base: int, hosts: int) -> int:
    if not text:
        return 0
    if not isinstance(text, str) or family(text) != version or "/" in text:
        raise InvalidArgumentError(f"{text!r} is no address of {subnet}")
    value = number(text)
    if value >> hosts != base >> hosts:
        raise InvalidArgumentError(f"{text} is not in {subnet}")
    return value


def _refuse_rest(asked: dict[int, str]) -> None:
    if asked:
        raise InvalidArgumentError(f"{', '.join(asked.values())}: not in any range")


class Leases:
    """The leases of one network."""

    def __init__(self, network: str, folder: str = FOLDER) -> None:
        self._folder = f"{folder}/{network}"

    def take(
        self, owner: str, sets: Sequence[Sequence[Range]], wanted: Sequence[str] = ()
    ) -> list[tuple[Range, int]]:
        """Allocate an address from each set of ranges to *owner*; all, or ExhaustedError.

        An address in *wanted* is taken from the set it fits; AlreadyExistsError if it is taken.
        """
        asked = {number(address.partition("/")[0]): address for address in wanted}
        found: list[tuple[Range, int]] = []
        with self._locked():
            try:
                for index, ranges in enumerate(sets):
                    found.append(self._one(owner, index, ranges, asked))
                _refuse_rest(asked)
            except BaseException:
                for one, value in found:
                    os.unlink(self._path(one.text(value)))
                raise
        return found

    def _one(
        self, owner: str, index: int, ranges: Sequence[Range], asked: dict[int, str]
    ) -> tuple[Range, int]:
        for value, address in tuple(asked.items()):
            for one in ranges:
                fits = one.version == family(address.partition("/")[0])
                if fits and one.has(value):
                    if not self._claim(one.text(value), owner):
                        raise AlreadyExistsError(f"address {one.text(value)} is given out already")
                    del asked[value]
                    return one, value
        for one, value in self._candidates(index, ranges):
            if self._claim(one.text(value), owner):
                self._remember(index, one.text(value))
                return one, value
        raise ExhaustedError(
            f"no address is left in {', '.join(one.subnet for one in ranges) or 'no range'}"
        )

    def _claim(self, address: str, owner: str) -> bool:
        try:
            os.symlink(owner, self._path(address))
        except FileExistsError:
            return False
        return True

    def _candidates(self, index: int, ranges: Sequence[Range]) -> Iterator[tuple[Range, int]]:
        """Yield free addresses, beginning after the last one that was allocated."""
        last = self._last(index)
        start = next((i for i, one in enumerate(ranges) if one.first <= last <= one.last), 0)
        order = [*ranges[start:], *ranges[:start]]
        taken: set[str] | None = None
        for turn, one in enumerate([*order, *order[:1]]):
            first = last + 1 if turn == 0 and one.first <= last <= one.last else one.first
            end = last if turn == len(order) else one.last
            value = first
            while value <= end:
                if value != one.gateway and (taken is None or one.text(value) not in taken):
                    yield one, value
                    if taken is None:  # the first one was taken: read the whole list
                        taken = set(os.listdir(self._folder))
                value += 1

    def _last(self, index: int) -> int:
        try:
            return number(os.readlink(self._path(f"last.{index}")))
        except (OSError, OrlopError):
            return -1

    def _remember(self, index: int, address: str) -> None:
        beside = self._path(f"last.{index}.new")
        try:
            os.symlink(address, beside)
        except FileExistsError:  # from a killed process
            os.unlink(beside)
            os.symlink(address, beside)
        os.rename(beside, self._path(f"last.{index}"))

    def of(self, owner: str) -> list[str]:
        """Return the addresses of *owner*."""
        return [address for address, who in self._all() if who == owner]

    def is_full(self, sets: Sequence[Sequence[Range]]) -> bool:
        """Whether one of the sets has no address left."""
        taken = [(family(address), number(address)) for address, _ in self._all()]
        return any(
            all(
                sum(version == one.version and one.has(value) for version, value in taken)
                >= one.size()
                for one in ranges
            )
            for ranges in sets
        )

    def has(self, owner: str, address: str) -> bool:
        """Whether that address belongs to *owner*."""
        try:
            return os.readlink(self._path(address)) == owner
        except OSError:
            return False

    def release(self, gone: Callable[[str], bool]) -> None:
        """Release the addresses of all owners that are *gone*."""
        if not os.path.isdir(self._folder):
            return
        with self._locked():
            for address, owner in tuple(self._all()):
                if gone(owner):
                    os.unlink(self._path(address))

    def _all(self) -> Iterator[tuple[str, str]]:
        try:
            entries = os.listdir(self._folder)
        except FileNotFoundError:
            return
        for name in entries:
            if not name.startswith("last."):
                yield name, os.readlink(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _locked(self) -> Locked:
        return Locked(self._folder)


class Locked:
    """An exclusive lock on a folder, which is made; the lock ends with its holder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._fd = -1

    def __enter__(self) -> None:
        import fcntl

        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
