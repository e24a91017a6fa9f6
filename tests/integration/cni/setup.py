"""What a test of CNI has: a host, containers by name, a runtime, and plugins of its own."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orlop.network.cni import configuration
from orlop.network.cni.cache import Key
from orlop.network.cni.configuration import Configuration
from orlop.network.cni.result import Result
from orlop.network.cni.runtime import Attachment, Cni
from tests.integration.cni.hosts import Host, Namespace

DEBIAN = "/usr/lib/cni"
BRIDGE = {
    "type": "bridge",
    "bridge": "cni0",
    "isGateway": True,
    "ipMasq": True,
    "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd00:9::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    },
}


def chain(*plugins: Mapping[str, Any], name: str = "net", version: str = "1.0.0") -> Configuration:
    return configuration.parse({"cniVersion": version, "name": name, "plugins": list(plugins)})


class Setup:
    def __init__(self, host: Host, folder: Path, timeout_s: float = 20) -> None:
        self.host = host
        self.folder = folder
        self.own = folder / "plugins"
        self.own.mkdir()
        self.containers: dict[str, Namespace] = {}
        self.cni = self.restarted(timeout_s)

    def restarted(self, timeout_s: float = 20) -> Cni:
        """A runtime that knows what the disk says."""
        return Cni(self.folder / "state", [str(self.own), DEBIAN], timeout_s=timeout_s)

    def container(self, name: str) -> Namespace:
        if name not in self.containers:
            self.containers[name] = self.host.container()
        return self.containers[name]

    def add(
        self, network: Configuration, name: str, interface: str = "eth0", **capabilities: Any
    ) -> Result:
        path = self.container(name).path
        attachment = Attachment(name, path, interface, {"IgnoreUnknown": "1"}, capabilities)
        return self.host(self.cni.add, network, attachment)

    def delete(self, network: Configuration, name: str, interface: str = "eth0") -> None:
        self.host(self.cni.delete, Key(network.name, name, interface), fallback=network)

    def check(self, network: Configuration, name: str, interface: str = "eth0") -> None:
        self.host(self.cni.check, Key(network.name, name, interface))

    def plugin(self, name: str, script: str) -> dict[str, str]:
        """Write a plugin in sh, and return a configuration of it."""
        path = self.own / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return {"type": name}

    def left(self) -> list[str]:
        """What of the runtime's own is on the disk."""
        state = self.folder / "state"
        kept = ("net.network",)
        return [p.name for p in state.rglob("*") if p.is_file() and not p.name.endswith(kept)]

    def close(self) -> None:
        for namespace in self.containers.values():
            namespace.close()
