"""Lists that cannot be, and networks on which nobody can be held to one."""

import re
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.errors import InvalidArgumentError
from orlop.model.network import EndpointOptions
from tests.integration.engine.harness import shell, with_engine
from tests.integration.networks.scenes import made


def test_only_networks_of_bridges_can_hold_anybody(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "lan", "10.8.0.0/24", driver="macvlan")
        await engine.containers.create(shell("true", network="bridge", egress=()), name="some")
        for network in ("none", "host", "container:some", "lan"):
            with pytest.raises(InvalidArgumentError, match="an egress list does not go with"):
                await engine.containers.create(shell("true", network=network, egress=()))
        with pytest.raises(InvalidArgumentError, match="lan, whose driver is macvlan"):
            await engine.networks.connect("lan", "some", EndpointOptions())
        for text in ("10.1.2.3/16", "pypi.org:0", "http://pypi.org", "*", "sctp:pypi.org", ""):
            with pytest.raises(InvalidArgumentError, match=re.escape(repr(text))):
                await engine.containers.create(shell("true", network="bridge", egress=(text,)))
        many = tuple(f"10.0.{number // 256}.{number % 256}" for number in range(257))
        with pytest.raises(InvalidArgumentError, match="of 257 entries"):
            await engine.containers.create(shell("true", network="bridge", egress=many))

    with_engine(tmp_path, work)
