"""What a list names can be reached, and nothing else: the kernel says so at once."""

from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from tests.integration.engine.harness import with_engine
from tests.integration.networks.egress.world import (
    ADDRESS,
    ADDRESS6,
    HERE,
    OTHER,
    World,
    box,
    bridges_filter,
    forwarding,
    inside,
    serving,
    tries,
)
from tests.integration.networks.scenes import address, made

EVERYTHING = [
    *(f"tcp/{host}/7000" for host in (ADDRESS, ADDRESS6, OTHER, "203.0.113.1")),
    *(f"tcp/{host}/7000" for host in ("10.1.0.1", "10.1.0.3", "fd01::1", "fd01::3")),
]


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("filtered", ["0", "1"])
def test_only_what_is_listed_is_reached(tmp_path: Path, filtered: str) -> None:
    listed = ("203.0.113.8/30:7000", "udp:203.0.113.9:7001", "[2001:db8:9::9]:7001", "10.1.0.3")

    async def work(engine: Engine) -> None:
        bridges_filter(filtered)
        await made(engine, "a", "10.1.0.0/24", "fd01::/64")
        some = await box(engine, "some", "a", listed)
        other = await box(engine, "other", "a")
        third = await box(engine, "third", "a")
        with serving(inside(other)), serving(inside(third)), serving(HERE):
            expected = {
                f"tcp/{ADDRESS}/7000": "open",
                f"tcp/{OTHER}/7000": "open",
                f"tcp/{ADDRESS}/7001": "refused",
                f"udp/{ADDRESS}/7001": "open",
                f"udp/{OTHER}/7001": "refused",
                f"tcp/{ADDRESS6}/7001": "open",
                f"tcp/{ADDRESS6}/7000": "refused",
                "tcp/10.1.0.3/7000": "open",
                "udp/10.1.0.3/7001": "open",
                "tcp/10.1.0.4/7000": "refused",
                "tcp/fd01::3/7000": "refused",
                "tcp/10.1.0.1/7000": "refused",
                "tcp/fd01::1/7000": "refused",
                "tcp/203.0.113.1/7000": "refused",
            }
            assert (
                dict(zip(expected, await tries(inside(some), *expected), strict=True)) == expected
            )
            assert await tries(inside(other), *EVERYTHING) == ["open"] * len(EVERYTHING)

    with_engine(tmp_path, work, timeout_s=300)


@pytest.mark.parametrize("filtered", ["0", "1"])
def test_who_may_send_nowhere_still_answers(tmp_path: Path, outside: World, filtered: str) -> None:
    async def work(engine: Engine) -> None:
        bridges_filter(filtered)
        ports = {"7000/tcp": (("", "17000"),)}
        silent = await box(engine, "silent", "bridge", (), port_bindings=ports)
        other = await box(engine, "other", "bridge")
        own = address(silent)
        with serving(inside(silent)), serving(inside(other)), serving(HERE):
            assert await tries(inside(other), f"tcp/{own}/7000", f"udp/{own}/7001") == [
                "open",
                "open",
            ]
            assert await tries(HERE, f"tcp/{own}/7000", "tcp/127.0.0.1/17000") == ["open", "open"]
            assert await tries(outside.inside, "tcp/203.0.113.1/17000") == ["open"]
            wanted = [f"tcp/{ADDRESS}/7000", f"tcp/{address(other)}/7000", "tcp/203.0.113.1/17000"]
            assert await tries(inside(silent), *wanted) == ["refused"] * 3

    with_engine(tmp_path, work, timeout_s=300)


def test_on_a_network_without_a_way_out_a_list_names_neighbors(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24", internal=True)
        some = inside(await box(engine, "some", "a", ("10.1.0.3",)))
        listed = inside(await box(engine, "listed", "a"))
        other = inside(await box(engine, "other", "a"))
        with serving(listed), serving(other):
            wanted = ("tcp/10.1.0.3/7000", "udp/10.1.0.3/7001", "udp/10.1.0.4/7001")
            assert await tries(some, *wanted) == ["open", "open", "refused"]
            assert await tries(listed, "tcp/10.1.0.4/7000") == ["open"]

    with forwarding("0"):
        with_engine(tmp_path, work, timeout_s=300)
