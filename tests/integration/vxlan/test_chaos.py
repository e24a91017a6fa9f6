"""All at once, in random order: and in the end everybody knows the same."""

import itertools
import random
import time

import pytest

from tests.integration.vxlan.hosts import Container, Host, Underlay, connected, until


class Chaos:
    """Hosts, what runs on each, and who is down or cut off."""

    def __init__(self, underlay: Underlay, seed: int) -> None:
        self.choose = random.Random(seed)
        self.underlay = underlay
        self.hosts = underlay.network(3)
        self.running: dict[int, dict[str, Container]] = {host.number: {} for host in self.hosts}
        self.down: set[int] = set()
        self.cut: set[int] = set()
        self._count = 0

    def step(self) -> None:
        host = self.choose.choice(self.hosts)
        act = self.choose.choice((self.attach, self.attach, self.detach, self.kill, self.sever))
        act(host)
        time.sleep(self.choose.random() / 5)  # now and then long enough to be missed

    def attach(self, host: Host) -> None:
        if host.number not in self.down:
            self._count += 1
            name = f"c{self._count}"
            self.running[host.number][name] = host.attach(name)

    def detach(self, host: Host) -> None:
        mine = self.running[host.number]
        if host.number not in self.down and mine:
            name = self.choose.choice(sorted(mine))
            host.do("detach", name)
            del mine[name]

    def kill(self, host: Host) -> None:
        if host.number in self.down:
            host.start()
        else:
            host.kill()
        self.down ^= {host.number}

    def sever(self, host: Host) -> None:
        if host.number in self.cut:
            self.underlay.heal(host)
        else:
            self.underlay.cut(host)
        self.cut ^= {host.number}

    def calm(self) -> None:
        for host in self.hosts:
            if host.number in self.down:
                host.start()
            if host.number in self.cut:
                self.underlay.heal(host)

    def is_agreed(self) -> bool:
        """Whether each host's kernel knows just the containers of the others."""
        for host in self.hosts:
            entries = host.entries()
            for other in self.hosts:
                for container in self.running[other.number].values():
                    if (f"{container.mac} dst {other.ipv4} self" in entries) == (other is host):
                        return False
            known = sum(
                " dst " in line and "00:00:00:00" not in line for line in entries.split("\n")
            )
            others = [o for o in self.hosts if o is not host]
            if known != sum(len(self.running[o.number]) + 1 for o in others):
                return False
        return True


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_everybody_knows_the_same_in_the_end(underlay: Underlay, seed: int) -> None:
    chaos = Chaos(underlay, seed)
    for _ in range(40):
        chaos.step()
    chaos.calm()
    until(lambda: all(connected(host) == 3 for host in chaos.hosts), 30)
    until(chaos.is_agreed, 30)
    every = [one for mine in chaos.running.values() for one in mine.values()]
    addresses = [address for container in every for address in container.addresses]
    assert len(addresses) == len(set(addresses))
    for here, there in itertools.pairwise(every):
        here.hears(there)
