"""Names of a list are answered, and open where they lead; no others are."""

from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from tests.integration.engine.harness import with_engine
from tests.integration.networks.egress.world import (
    ADDRESS,
    ADDRESS6,
    HERE,
    NAMESERVER,
    OTHER,
    World,
    box,
    inside,
    opened,
    said,
    serving,
    tries,
)
from tests.integration.networks.scenes import made


@pytest.mark.parametrize("network", ["bridge", "a"])
def test_a_name_opens_its_addresses_for_its_port(
    tmp_path: Path, outside: World, network: str
) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24", "fd01::/64")
        listed = ("plain.example:7000", "udp:plain.example:7001", "*.deep.example")
        some = inside(await box(engine, "some", network, listed))
        before = await tries(
            some, f"tcp/{ADDRESS}/7000", f"tcp/{NAMESERVER}/53", f"tcp/{OTHER}/7000"
        )
        assert before == ["refused"] * 3
        asked = len(outside.names.asked)
        expected = {
            "tcp/other.example/7000": "unknown",
            "tcp/deep.example/7000": "unknown",
            "tcp/xplain.example/7000": "unknown",
            "tcp/some/7000": "unknown",
        }
        assert dict(zip(expected, await tries(some, *expected), strict=True)) == expected
        assert len(outside.names.asked) == asked
        expected = {
            "tcp/PLAIN.example/7000": "open",
            "udp/plain.example/7001": "open",
            "tcp/plain.example/7001": "refused",
            f"tcp/{ADDRESS}/7000": "open",
            f"tcp/{OTHER}/7000": "refused",
            "tcp/a.deep.example/7001": "open",
            f"tcp/{OTHER}/7001": "open",
        }
        assert dict(zip(expected, await tries(some, *expected), strict=True)) == expected
        other = inside(await box(engine, "other", network, listed))
        assert await tries(other, f"tcp/{ADDRESS}/7000") == ["refused"]

    with_engine(tmp_path, work, timeout_s=300)


@pytest.mark.usefixtures("outside")
def test_ipv6_and_long_answers_are_opened_too(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24", "fd01::/64")
        some = inside(await box(engine, "some", "a", ("plain.example:7000", "many.example:1")))
        command = ["dig", "@127.0.0.11", "+short", "+tries=1", "+time=20"]
        for words in (["plain.example", "AAAA"], ["+noedns", "many.example"]):
            assert await said(some, *command, *words)
        assert await tries(some, f"tcp/{ADDRESS6}/7000", f"tcp/{ADDRESS6}/7001") == [
            "open",
            "refused",
        ]
        assert len(opened("ports4")) == 64
        assert all(60 >= seconds > 0 for seconds in opened("ports4").values())

    with_engine(tmp_path, work, timeout_s=300)


def test_no_name_of_the_world_leads_to_the_host_or_a_neighbour(
    tmp_path: Path, outside: World
) -> None:
    del outside

    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        other = await box(engine, "other", "a")
        some = inside(await box(engine, "some", "a", ("back.example", "other:7000")))
        with serving(inside(other)), serving(HERE):
            assert await tries(some, "tcp/back.example/7000") == ["refused"]
            wanted = [f"tcp/{host}/7000" for host in ("10.1.0.1", "10.1.0.2", "203.0.113.1")]
            assert await tries(some, *wanted) == ["refused"] * 3
            assert await tries(some, "tcp/other/7000", "tcp/other/7001") == ["open", "refused"]
        assert {address for *_, address in opened("all4")} == {"203.0.113.1"}

    with_engine(tmp_path, work, timeout_s=300)
