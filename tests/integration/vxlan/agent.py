"""A host of a vxlan network without an engine around it: peers, driver, and containers.

Run in the host's network namespace as `agent.py FOLDER TIMING…`. It takes one JSON
list a line, a verb with its arguments, and answers each with one line. What it has to
remember is in FOLDER; a container is a process that holds a namespace, and outlives it.
"""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from orlop.engine.peers import ranges
from orlop.engine.peers.links import Timing
from orlop.engine.peers.peers import Peers
from orlop.errors import OrlopError
from orlop.model.network import Endpoint, Network, Route, Subnet
from orlop.model.overlay import HostEndpoint, Peering
from orlop.network.ipam import mac_for
from orlop.network.namespace import Home
from orlop.network.vxlan import Vxlan, bridge_mac
from orlop.store.database import Database
from orlop.store.memberships import Memberships

log = logging.getLogger(__name__)


class Record(msgspec.Struct, kw_only=True):
    """What an engine's metadata would have."""

    network: Network | None = None
    endpoints: dict[str, Endpoint] = {}
    pids: dict[str, int] = {}


class Agent:
    def __init__(self, folder: Path, timing: Timing) -> None:
        self.folder = folder
        self.path = folder / "record.json"
        self.record = Record()
        if self.path.exists():
            self.record = msgspec.json.decode(self.path.read_bytes(), type=Record)
        self.owned: tuple[str, ...] = ()
        self.peers = Peers(self, Memberships(Database(folder / "metadata.db")), timing)
        self._executor = ThreadPoolExecutor(1)
        self._driver: Vxlan | None = None

    async def open(self) -> None:
        network = self.record.network
        if network is not None:
            await self.in_thread(lambda: self.driver.create(network))
        await self.peers.open({network.id: network} if network else {})
        if network is not None:
            self.tell_all(network)

    def tell_all(self, network: Network) -> None:
        gateways = tuple(subnet.gateway for subnet in network.subnets)
        self.peers.put(network.id, HostEndpoint(mac=bridge_mac(network), addresses=gateways))
        for endpoint in self.record.endpoints.values():
            self.peers.put(network.id, _told(endpoint))

    @property
    def driver(self) -> Vxlan:
        if self._driver is None:
            self._driver = Vxlan(Home(), "0123abcd")
        return self._driver

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def save(self) -> None:
        self.path.with_suffix(".new").write_bytes(msgspec.json.encode(self.record))
        os.replace(self.path.with_suffix(".new"), self.path)

    # What peers want of a host

    def taken(self, network: str) -> Collection[str]:
        known = self.record.network
        assert known is not None
        addresses = [each.gateway for each in known.subnets]
        for endpoint in self.record.endpoints.values():
            addresses += [address.partition("/")[0] for address in endpoint.addresses]
        return addresses

    def own(self, network: str, owned: tuple[str, ...]) -> None:
        self.owned = owned

    async def apply(self, network: str, peering: Peering) -> None:
        known = self.record.network
        if known is not None:
            await self.in_thread(lambda: self.driver.know(known, peering))

    async def check(self, network: Network) -> Network:
        checked: Network = await self.in_thread(lambda: self.driver.check(network))
        return checked

    async def adopt(self, network: Network) -> None:
        self.record.network = network
        self.save()
        await self.in_thread(lambda: self.driver.create(network))

    # Verbs

    async def found(self, subnets: list[str], options: dict[str, str]) -> dict[str, Any]:
        parsed = tuple(
            Subnet(subnet=each, gateway=str(ranges.first_free((each,), each, ())))
            for each in subnets
        )
        network = Network(
            id=os.urandom(32).hex(), name="net", driver="vxlan", subnets=parsed, options=options
        )
        network = await self.check(network)
        await self.adopt(network)
        await self.peers.found(network)
        self.tell_all(network)
        return _shown(network)

    async def token(self) -> str:
        return self.peers.token(self.network.id)

    async def join(self, token: str) -> dict[str, Any]:
        network = await self.peers.join(token)
        self.tell_all(network)
        return _shown(network)

    async def leave(self) -> None:
        network = self.network
        await self.peers.leave(network.id)
        await self.in_thread(lambda: self.driver.remove(network))
        self.record.network = None
        self.save()

    async def attach(self, name: str) -> dict[str, Any]:
        network = self.network
        addresses = []
        for subnet in network.subnets:
            version = 6 if ":" in subnet.subnet else 4
            free = ranges.first_free(self.owned, subnet.subnet, self.taken(network.id))
            if free is None and await self.peers.more(network.id, version=version):
                free = ranges.first_free(self.owned, subnet.subnet, self.taken(network.id))
            if free is None:
                raise OrlopError("no address is left")
            addresses.append(f"{free}/{subnet.subnet.partition('/')[2]}")
        endpoint = Endpoint(
            id=os.urandom(32).hex(),
            network=network.id,
            container=os.urandom(32).hex(),
            interface="eth0",
            host_interface=f"ve{os.urandom(6).hex()}",
            mac=mac_for(addresses[0]),
            addresses=tuple(addresses),
            mtu=network.mtu,
            routes=tuple(
                Route(destination="::/0" if ":" in s.gateway else "0.0.0.0/0", gateway=s.gateway)
                for s in network.subnets
            ),
            aliases=(name,),
        )
        process = await self._namespace()
        namespace = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
        await self.in_thread(lambda: self.driver.attach(network, endpoint, namespace))
        os.close(namespace)
        self.record.endpoints[name] = endpoint
        self.record.pids[name] = process.pid
        self.save()
        self.peers.put(network.id, _told(endpoint))
        return {"pid": process.pid, "addresses": addresses, "mac": endpoint.mac}

    async def _namespace(self) -> subprocess.Popen[bytes]:
        """Start a process in a new network namespace; the agent's record is among its words."""
        process = subprocess.Popen(
            ["unshare", "--net", "tail", "-f", "/dev/null", str(self.path)],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        own = os.stat("/proc/self/ns/net").st_ino
        while os.stat(f"/proc/{process.pid}/ns/net").st_ino == own:
            await asyncio.sleep(0.002)
        return process

    async def detach(self, name: str) -> None:
        network = self.network
        endpoint = self.record.endpoints.pop(name)
        pid = self.record.pids.pop(name)
        self.save()
        os.kill(pid, 9)
        await self.in_thread(lambda: self.driver.detach(network, endpoint, None))
        self.peers.drop(network.id, endpoint.mac)

    async def members(self) -> list[list[Any]]:
        return [
            [each.member.address, each.status, each.endpoints]
            for each in self.peers.members(self.network.id)
        ]

    async def ask(self) -> bool:
        return await self.peers.more(self.network.id, version=4)

    async def ranges(self) -> list[str]:
        return list(self.owned)

    async def create_again(self) -> None:
        network = self.network
        await self.in_thread(lambda: self.driver.create(network))

    async def strays(self) -> list[str]:
        known = [self.record.network] if self.record.network else []
        endpoints = list(self.record.endpoints.values())
        found: list[str] = await self.in_thread(lambda: self.driver.strays(known, endpoints))
        return found

    async def memory(self) -> int:
        text = Path("/proc/self/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0])

    @property
    def network(self) -> Network:
        assert self.record.network is not None
        return self.record.network


def _told(endpoint: Endpoint) -> HostEndpoint:
    addresses = tuple(address.partition("/")[0] for address in endpoint.addresses)
    return HostEndpoint(mac=endpoint.mac, addresses=addresses, aliases=endpoint.aliases)


def _shown(network: Network) -> dict[str, Any]:
    return {
        "id": network.id,
        "mtu": network.mtu,
        "options": network.options,
        "gateways": [subnet.gateway for subnet in network.subnets],
    }


async def main() -> None:
    folder = Path(sys.argv[1])
    logging.basicConfig(filename=folder / "log", level=logging.INFO)
    agent = Agent(folder, Timing(*map(float, sys.argv[2:])))
    await agent.open()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    print(json.dumps("ready"), flush=True)
    while line := await reader.readline():
        verb, *arguments = json.loads(line)
        try:
            answer: Any = {"is": await getattr(agent, verb)(*arguments)}
        except Exception as error:  # what it is, the test sees
            log.exception("%s", verb)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    await agent.peers.close()


if __name__ == "__main__":
    asyncio.run(main())
