"""The outlets of one engine, with their lists and opened addresses, in the kernel."""

import errno
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import MappingProxyType
from typing import Any

from orlop.kernel.nftables import Nftables
from orlop.network.egress import rules
from orlop.network.egress.learned import Found, Learned, Opening, Withheld
from orlop.network.egress.outlet import Outlet
from orlop.network.firewall.bridges import is_there, make_table

_MOST_UNUSED = 16  # unused lists that are kept for reuse
_LOOKS = 32  # checks of released interfaces, for each change


class Egress:
    """Guards outlets in the caller's network namespace, with tables of the name *table*.

    For one thread. A method that fails changes neither rules nor memory. When the engine
    ends or dies the rules stay: sandboxes keep running, guarded.
    """

    def __init__(
        self, nft: Nftables, table: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nft = nft
        self._table = table
        self._clock = clock
        self._made = False
        self._is_stale = False  # the rules have outlets that were released
        self._outlets: dict[str, Outlet] = {}  # by interface
        self._containers: dict[str, list[str]] = {}  # their interfaces
        self._lists: dict[str, int] = {}  # existing chains, with the number of their outlets
        self._leaving: dict[str, str] = {}  # released interfaces: MAC of their bridge
        self._learned = Learned()

    def guard(self, outlets: Sequence[Outlet]) -> None:
        """Restrict *outlets* to their lists, from now on; all or none."""
        new = {one.interface: one for one in outlets if self._outlets.get(one.interface) != one}
        if not new:
            return
        is_known = any(name in self._outlets or name in self._leaving for name in new)
        if is_known or self._is_stale or not self._made:
            self._make({**self._outlets, **new})
            return
        lists = {rules.list_of(one): one for one in new.values()}
        fresh = [one for name, one in lists.items() if name not in self._lists]
        commands = [rules.chain(self._table, one) for one in fresh]
        commands += [rules.outlet(self._table, one) for one in new.values()]
        if self._run("".join(commands), new):
            self._add(new.values())

    def release(self, interfaces: Collection[str]) -> None:
        """Release outlets, even if that fails; an unknown one is no error.

        While the interface exists, it can send nothing.
        """
        gone = {name: self._outlets[name] for name in interfaces if name in self._outlets}
        if not gone:
            return
        commands = []
        for one in gone.values():
            commands.append(rules.closings(self._table, self._learned.of(one)))
            commands.append(rules.without_sources(self._table, one))
        left = self._left(_LOOKS * len(gone))
        commands += [rules.without_interface(self._table, name) for name in left]
        for one in gone.values():
            self._drop(one)
        self._is_stale = True
        if self._run("".join(commands)):
            self._is_stale = False
            for name in left:
                del self._leaving[name]
            self._drop_lists()

    def learn(self, container: str, found: Sequence[Found]) -> list[Withheld]:
        """Open the addresses that a name resolved to for a container's outlets, for a while.

        Returns the private ones, which stay closed.
        """
        withheld: list[Withheld] = []
        for outlet in [self._outlets[name] for name in self._containers.get(container, ())]:
            now = self._clock()
            changes = self._learned.plan(outlet, found, now)
            if changes.opened:
                commands = rules.closings(self._table, changes.closed)
                commands += rules.openings(self._table, changes.opened)
                if not self._run(commands):
                    self._nft.run(commands)
                self._learned.done(outlet, changes, now)
            withheld += changes.withheld
        return withheld

    def restore(self) -> None:
        """Restore the rules, because somebody has changed them."""
        if self._made:
            self._is_stale = True
            self._make(self._outlets)

    def reconcile(self, outlets: Iterable[Outlet]) -> None:
        """Guard exactly these, with the addresses that an earlier engine opened for them."""
        whole = {one.interface: one for one in outlets}
        if whole:
            self._remember(whole.values())
            self._make(whole)
        else:
            self._remove()

    def bridges(self) -> set[str]:
        """Return the bridges with guarded outlets."""
        return {one.bridge for one in self._outlets.values()}

    def leaving(self) -> list[str]:
        """Return the interfaces of released outlets, which may still exist."""
        return list(self._leaving)

    def tidy(self) -> None:
        """Remove the rules if they guard nothing; then no released interface exists any more."""
        if self._made and not self._outlets:
            self._remove()  # or the next engine does

    def _make(self, outlets: dict[str, Outlet]) -> None:
        """Make all rules again, in one transaction."""
        lists = {rules.list_of(one): one for one in outlets.values()}
        commands = [rules.tables(self._table)]
        commands += [rules.chain(self._table, one) for one in lists.values()]
        commands += [rules.outlet(self._table, one) for one in outlets.values()]
        left = {
            name: mac
            for name, mac in self._leaving.items()
            if name not in outlets and is_there(name)
        }
        commands += [rules.interface(self._table, *one) for one in left.items()]
        commands.append(rules.openings(self._table, self._learned.left(self._clock())))
        make_table(self._nft, "".join(commands), purpose="set the rules of an egress list")
        self._made, self._is_stale = True, False
        self._leaving = left
        self._outlets, self._lists, self._containers = {}, {}, {}
        self._add(outlets.values())

    def _run(self, commands: str, new: Mapping[str, Outlet] = MappingProxyType({})) -> bool:
        """Run *commands*; if the rules are not as we left them, make all rules again instead.

        Returns whether the commands were run; if not, *new* outlets are guarded already.
        """
        try:
            self._nft.run(commands)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.EEXIST}:
                raise
            self._make({**self._outlets, **new})
            return False
        return True

    def _add(self, outlets: Iterable[Outlet]) -> None:
        for one in outlets:
            name = rules.list_of(one)
            self._lists[name] = self._lists.get(name, 0) + 1
            self._outlets[one.interface] = one
            self._containers.setdefault(one.container, []).append(one.interface)

    def _drop(self, one: Outlet) -> None:
        del self._outlets[one.interface]
        self._containers[one.container].remove(one.interface)
        if not self._containers[one.container]:
            del self._containers[one.container]
        self._lists[rules.list_of(one)] -= 1
        self._learned.forget(one)
        self._leaving[one.interface] = one.bridge_mac

    def _drop_lists(self) -> None:
        unused = [name for name, count in self._lists.items() if not count]
        if len(unused) > _MOST_UNUSED:
            self._nft.run("".join(rules.without_chain(self._table, name) for name in unused))
            for name in unused:
                del self._lists[name]

    def _left(self, most: int) -> list[str]:
        """Return some released interfaces that are gone."""
        return [name for name in islice(self._leaving, most) if not is_there(name)]

    def _remove(self) -> None:
        with suppress(OSError):  # a kernel without bridge tables has none
            self._nft.run(rules.none(self._table))
        self._made = self._is_stale = False
        self._lists.clear()
        self._leaving.clear()

    def _remember(self, outlets: Iterable[Outlet]) -> None:
        """Read the opened addresses from the kernel, if there are rules."""
        owners = {(one.bridge, source): one for one in outlets for source in one.addresses}
        now = self._clock()
        for opening, seconds in self._openings():
            owner = owners.get((opening.bridge, opening.source))
            if owner is not None:
                self._learned.adopt(owner, opening, now + seconds)

    def _openings(self) -> Iterator[tuple[Opening, int]]:
        for name in rules.LEARNED:
            try:
                told = self._nft.listing(f"list set inet {self._table} {name}")
            except OSError:  # there are no rules
                return
            for one in json.loads(told or '{"nftables": []}')["nftables"]:
                for element in one.get("set", {}).get("elem", ()):
                    yield _opening(element["elem"]), int(element["elem"].get("expires", 0))


def _opening(element: dict[str, Any]) -> Opening:
    bridge, source, address, *ports = element["val"]["concat"]
    return Opening(bridge, source, address, *ports)
