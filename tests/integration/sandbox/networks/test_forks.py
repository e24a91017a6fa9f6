"""Forks of what runs, on a network: each has an address of its own, and nothing of it stays."""

import orlop
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.session import COMMAND, ask

_ADDRESS = ["sh", "-c", "ip -4 -o address show eth0 | sed 's|.*inet ||; s|/.*||'"]


def test_forks_of_processes_have_addresses_of_their_own(engine: EngineProcess) -> None:
    with orlop.Sandbox(
        engine=engine.url, command=COMMAND, network="bridge", neighbours=True, ports=[80]
    ) as box:
        ask(box, "count = 1")
        forks = box.fork(2, processes=True)
        addresses = [each.run(_ADDRESS).stdout.strip() for each in (box, *forks)]
        assert len({*addresses} - {b""}) == 3
        assert len({each.address(80) for each in (box, *forks)}) == 3
        ask(box, "import socket; server = socket.create_server(('', 80))")
        connect = f"__import__('socket').create_connection(({addresses[0].decode()!r}, 80), 20)"
        for fork in forks:
            assert "raddr" in ask(fork, connect)
            assert ask(fork, "count") == "1"
