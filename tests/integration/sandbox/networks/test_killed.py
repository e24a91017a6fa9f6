"""The engine is killed: sandboxes keep what they have of networks, and nothing else stays."""

import json
import signal

from tests.integration.engines import EngineProcess
from tests.integration.networks.scenes import can_bind
from tests.integration.sandbox.networks.quick import (
    WHO_AM_I,
    Quick,
    ask,
    is_there,
    wait_until,
)


def addresses(engine: EngineProcess, container: str) -> list[str]:
    told = engine.out("inspect", "--format", "{{json .NetworkSettings.Networks}}", container)
    return [network["IPAddress"] for network in json.loads(told).values()]


def test_what_runs_stays_on_its_networks_and_what_waited_goes(
    engine: EngineProcess, quick: Quick
) -> None:
    engine.docker("network", "create", "--subnet", "10.9.0.0/16", "front")
    plain = quick.serve()
    named = quick.serve(network="front", Hostname="web")
    ports = {"PortBindings": {"7000/tcp": [{"HostPort": "17000"}]}}
    published = quick.serve(HostConfig=ports)
    idle = quick.run(*WHO_AM_I)
    there = [*addresses(engine, plain.id), *addresses(engine, named.id)]
    engine.stop(signal.SIGKILL)
    wait_until(lambda: not is_there(idle))
    assert [ask(one).split()[0].rpartition(".")[2] for one in there] == ["1", "1"]
    engine.start()
    assert [*addresses(engine, plain.id), *addresses(engine, named.id)] == there
    assert "refused" not in ask("127.0.0.1", 17000).split()[0]
    with Quick(engine.url) as again:
        fresh = again.run("sh", "-c", "getent hosts $(hostname); getent hosts web", network="front")
        assert fresh.split()[0] not in there
        assert fresh.splitlines()[-1].split()[0] == there[1]
        assert again.run("sh", "-c", "getent hosts $(hostname)").split()[0] not in there
    engine.docker("rm", "-f", plain.id, named.id, published.id)
    wait_until(lambda: can_bind(17000))
    engine.docker("run", "--rm", "--network", "front", "--ip", there[1], "host", "true")
