"""containerd's `ctr run --cni`, with `orlop-cni` in a chain of the machine's configuration."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cni.setup import DEBIAN, Setup
from tests.integration.cni.test_orlop_cni import OURS, PROGRAM, leases
from tests.integration.peers import servers
from tests.integration.peers.servers import IMAGE, Peer

REFERENCE = f"docker.io/library/{IMAGE}"
#: ctr looks where everybody does, so the host of the test has such places of its own.
PLACES = f"""
mkdir /run/upper /run/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work /etc
mkdir -p /etc/cni/net.d
mount -t tmpfs tmpfs /opt
mkdir -p /opt/cni/bin
ln -s {DEBIAN}/* {PROGRAM} /opt/cni/bin
cat > /etc/cni/net.d/10-orlop.conflist
"""
CHAIN = {
    "cniVersion": "1.0.0",
    "name": "net",
    "plugins": [OURS, {"type": "tuning", "sysctl": {"net.core.somaxconn": "77"}}],
}


@pytest.fixture
def ctr(setup: Setup, busybox_archive: Path) -> Iterator[Peer]:
    with servers.place() as folder, servers.containerd(folder) as peer:
        peer.said("image", "import", "--snapshotter", "native", str(busybox_archive))
        setup.host(
            subprocess.run, ["sh", "-ec", PLACES], input=json.dumps(CHAIN), text=True, check=True
        )
        yield peer


def test_container_of_containerds_is_on_our_network(setup: Setup, ctr: Peer) -> None:
    flags = ["--runc-root", f"{ctr.folder}/runc", "--fifo-dir", f"{ctr.folder}/fifo"]
    flags += ["--cgroup", f"/{ctr.folder.name}/c", "--snapshotter", "native", "--cni"]
    look = "ip -o address show eth0; ip route; cat /proc/sys/net/core/somaxconn; sleep 600"
    setup.host(ctr.said, "run", "--detach", *flags, REFERENCE, "one", "sh", "-c", look)
    words = ["task", "exec", "--fifo-dir", f"{ctr.folder}/fifo", "--exec-id", "e", "one"]
    said = ctr.said(*words, "sh", "-c", look.replace("; sleep 600", ""))
    assert "10.9.0.2/24" in said
    assert "fd00:9::2/64" in said
    assert "default via 10.9.0.1" in said
    assert "77" in said
    ping = ["task", "exec", "--fifo-dir", f"{ctr.folder}/fifo", "--exec-id", "p", "one"]
    assert "1 packets received" in ctr.said(*ping, "ping", "-c", "1", "-W", "5", "10.9.0.1")
    assert len(leases(setup)) == 2
    ended = setup.host(ctr, "run", "--rm", *flags, REFERENCE, "two", "ip", "-o", "address")
    assert ended.status == 0, ended
    assert len(leases(setup)) == 2, "ctr has asked for DEL"
