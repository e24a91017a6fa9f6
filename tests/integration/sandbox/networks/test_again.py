"""A namespace is used again: by its owner, as if nobody had been in it, or not at all."""

import array
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orlop.errors import AlreadyExistsError, CommandNotFoundError
from orlop.kernel.conntrack import Conntrack
from tests.integration.engines import EngineProcess
from tests.integration.networks.scenes import can_bind
from tests.integration.sandbox.networks.quick import (
    STAYS,
    WHO_AM_I,
    Quick,
    ask,
    is_there,
    wait_until,
)

SEVERAL = 6
FAILURES = 20
TRIES = 5
OTHER = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.integration.sandbox.networks.quick import STAYS, Quick
with Quick(sys.argv[1]) as quick:
    boxes = [quick.start(*STAYS) for _ in range(4)]
    print(*[box.line() for box in boxes], flush=True)
    for box in boxes[1:]:
        box.close()
    print(boxes[0].id, flush=True)
    sys.stdin.read()
"""
#: Sends a socket of its network namespace away, and ends.
SMUGGLE = """
import array, socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("0.0.0.0", 7000))
out = socket.socket(fileno=1)
me = open("/sys/class/net/eth0/iflink", "rb").read()
out.sendmsg([me], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [one.fileno()]))])
"""


def several(quick: Quick) -> set[str]:
    """Start some beside each other, and return who they were."""
    boxes = [quick.start(*STAYS) for _ in range(SEVERAL)]
    told = {box.line() for box in boxes}
    for box in boxes:
        box.close()
    return told


def flows_of(address: str) -> list[object]:
    with Conntrack() as conntrack:
        tcp = conntrack.flows(socket.AF_INET, socket.IPPROTO_TCP, 7000)
        udp = conntrack.flows(socket.AF_INET, socket.IPPROTO_UDP, 7000)
    return [flow for flow in (*tcp, *udp) if flow.answering == address]


@pytest.mark.parametrize("network", ["bridge", "front"])
def test_an_owner_gets_it_again_with_nothing_known_of_before(
    engine: EngineProcess, quick: Quick, network: str
) -> None:
    if network != "bridge":
        engine.docker("network", "create", network)
    for _ in range(TRIES):
        server = quick.serve(network=network)
        format_ = f"{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"
        address = engine.out("inspect", "--format", format_, server.id)
        who = engine.out("exec", server.id, *WHO_AM_I)
        ask(address)  # it ends the connection, and TCP remembers that for a minute
        assert flows_of(address)
        server.close()
        if comes_again(quick, who, network):
            assert not flows_of(address)
            return
    raise AssertionError("in vain")


def comes_again(quick: Quick, who: str, network: str) -> bool:
    """Return whether a later sandbox gets it; it is closed if its sockets take long to end."""
    while is_there(who):
        if quick.start(*STAYS, network=network).line() == who:  # those stay
            return True
    return False


def test_ports_of_the_host_lead_to_it_while_it_is_lent(quick: Quick) -> None:
    ports = {"PortBindings": {f"7000/{kind}": [{"HostPort": "17000"}] for kind in ("tcp", "udp")}}
    seen = set()
    for _ in range(3):
        server = quick.serve(HostConfig=ports)
        answers = ask("127.0.0.1", 17000).split()
        assert answers[0] == answers[1]
        seen |= set(answers)
        with pytest.raises(AlreadyExistsError, match="port is already allocated"):
            quick.run("true", HostConfig=ports)
        server.close()
        wait_until(lambda: can_bind(17000))
        assert ask("127.0.0.1", 17000).count("refused") == 2
    assert len(seen) == 1  # the gateway


def test_no_other_owner_gets_it_and_it_goes_with_its_owner(
    engine: EngineProcess, quick: Quick
) -> None:
    mine = several(quick)
    command = [sys.executable, "-c", OTHER, engine.url, str(Path(__file__).parents[4])]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = set(other.stdout.readline().split())
        served = other.stdout.readline().strip()
        assert len(theirs) == 4
        assert not mine & theirs
        wait_until(lambda: quick.start(*STAYS).line() in mine)
        assert all(map(is_there, theirs))  # three of them wait
        other.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_there, theirs)))
    wait_until(lambda: served not in engine.out("ps", "-aq", "--no-trunc"))
    assert not theirs & several(quick)


def test_one_that_somebody_may_have_changed_is_not_used_again(
    engine: EngineProcess, quick: Quick
) -> None:
    changed = quick.run(*WHO_AM_I, HostConfig={"CapAdd": ["NET_ADMIN"]})
    writable = quick.run(*WHO_AM_I, HostConfig={"SecurityOpt": ["systempaths=unconfined"]})
    box = quick.start(*STAYS)
    altered = box.line()
    engine.docker("exec", "--privileged", box.id, "ip", "link", "set", "lo", "down")
    box.close()
    box = quick.start(*STAYS)
    disconnected = box.line()
    engine.docker("network", "disconnect", "bridge", box.id)
    box.close()
    left, theirs = socket.socketpair()
    with theirs:
        quick.run("python3", "-c", SMUGGLE, stdout=theirs.fileno())
    with left:
        told, ancillary, _, _ = left.recvmsg(100, socket.CMSG_SPACE(4))
    with socket.socket(fileno=array.array("i", ancillary[0][2])[0]) as smuggled:
        assert smuggled.getsockname() == ("0.0.0.0", 7000)
        wait_until(lambda: not any(map(is_there, (changed, writable, altered, disconnected))))
        assert is_there(told.decode())
        assert told.decode().strip() not in several(quick)


def test_starts_that_fail_leave_nothing(engine: EngineProcess, quick: Quick) -> None:
    engine.docker("network", "create", "front")
    ports = {"PortBindings": {"7000/tcp": [{"HostPort": "17000"}]}}
    for network in ("bridge", "front"):
        for more in ({}, {"HostConfig": ports}):
            for _ in range(FAILURES):
                with pytest.raises(CommandNotFoundError, match="not found"):
                    quick.run("no-such-command", network=network, **more)
    assert not engine.out("ps", "-aq")
    assert can_bind(17000)
    ends = [name for _, name in socket.if_nameindex() if name.startswith("ve")]
    assert len(ends) < 2 * FAILURES  # those that are used again, and those made ahead
    engine.docker("network", "rm", "front")
