"""Sandboxes on the default bridge reach no neighbours, unless that was asked for."""

import orlop
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.networks.quick import ASK, SERVER, Quick, ask, wait_until
from tests.integration.sandbox.networks.test_talk import endpoint

_ASK = ASK.replace("20.0", "3.5")  # after three seconds nobody has answered to ARP


def _reaches(quick: Quick, host: str, **more: object) -> bool:
    """Whether a sandbox gets an answer from port 7000, by TCP and by UDP; half is an error."""
    return _is_answered(quick.run("python3", "-c", _ASK, host, "7000", **more))


def _is_answered(told: str) -> bool:
    refused = told.count(": ")
    assert refused in (0, 2), told
    return not refused


def test_a_sandbox_and_its_neighbours_do_not_reach_each_other(
    engine: EngineProcess, quick: Quick
) -> None:
    server = quick.serve()
    engine.docker("run", "-d", "--name", "plain", "host", "python3", "-c", SERVER)
    own = endpoint(engine, server.id, "bridge")["IPAddress"]
    there = endpoint(engine, "plain", "bridge")
    plain, gateway = there["IPAddress"], there["Gateway"]
    wait_until(lambda: ask(plain) == f"{gateway} {gateway}")
    assert ask(own) == f"{gateway} {gateway}"
    for address in (own, plain):
        assert not _reaches(quick, address)
    for address, is_reached in ((own, False), (plain, True)):
        told = engine.out("run", "--rm", "host", "python3", "-c", _ASK, address, "7000")
        assert _is_answered(told) == is_reached


def test_a_sandbox_reaches_neighbours_where_that_was_asked_for(
    engine: EngineProcess, quick: Quick
) -> None:
    """The next one with the default does not, though it comes from the same pool."""
    server = quick.serve(neighbours=True)
    own = endpoint(engine, server.id, "bridge")["IPAddress"]
    for _ in range(3):
        assert _reaches(quick, own, neighbours=True)
        assert not _reaches(quick, own)


def test_a_sandbox_without_a_recipe_is_apart_too(engine: EngineProcess, quick: Quick) -> None:
    server = quick.serve(neighbours=True)
    own = endpoint(engine, server.id, "bridge")["IPAddress"]
    for neighbours in (None, True):
        with orlop.Sandbox(
            engine=engine.url, network="bridge", neighbours=neighbours, keep=True
        ) as box:
            told = box.run(["python3", "-c", _ASK, own, "7000"]).stdout.decode()
            assert _is_answered(told) == bool(neighbours)
            engine.docker("rm", "-f", box.id)


def test_sandboxes_on_a_network_of_the_user_s_are_apart_where_that_was_asked_for(
    engine: EngineProcess, quick: Quick
) -> None:
    engine.docker("network", "create", "--subnet", "10.9.0.0/16", "back")
    server = quick.serve(network="back")
    own = endpoint(engine, server.id, "back")["IPAddress"]
    assert _reaches(quick, own, network="back")
    assert not _reaches(quick, own, network="back", neighbours=False)


def test_ports_lead_from_sandbox_to_sandbox(engine: EngineProcess, quick: Quick) -> None:
    at = [{"HostPort": "7000"}]
    server = quick.serve(HostConfig={"PortBindings": {"7000/tcp": at, "7000/udp": at}})
    assert _reaches(quick, endpoint(engine, server.id, "bridge")["Gateway"])
