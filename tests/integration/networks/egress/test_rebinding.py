"""A listed name whose owner points it elsewhere, and queries that carry more than a question."""

import asyncio
import struct
from contextlib import closing
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.network.dns.message import bare, read_query, wire_name
from tests.integration.engine.harness import with_engine
from tests.integration.names.scene import Asker, Upstream, wire
from tests.integration.networks.egress.world import (
    ADDRESS,
    HERE,
    NAMESERVER,
    OTHER,
    World,
    added,
    box,
    inside,
    opened,
    said,
    serving,
    tries,
)
from tests.integration.networks.scenes import made

_LAN, _CARRIER = "10.66.0.9", "100.64.0.9"  # of somebody's own, beside this host
_PLAIN = b"\x05plain\x07example\x00"
_INSIDE = ("127.0.0.1", "169.254.169.254", "10.1.0.1", "10.1.0.2", _LAN, _CARRIER, "0.0.0.0")
_INSIDE6 = ("::1", "fd01::1", "fd00:ec2::254", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe")


def test_a_name_that_is_rebound_opens_nothing_inside(tmp_path: Path, outside: World) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24", "fd01::/64")
        other = await box(engine, "other", "a")
        some = inside(await box(engine, "some", "a", ("plain.example",)))
        outside.names.ttl_s = 0
        with added(outside, _LAN, _CARRIER), serving(inside(other)), serving(HERE):
            reached = [f"tcp/{host}/7000" for host in ("10.1.0.1", _LAN, _CARRIER)]
            assert await tries(inside(other), *reached) == ["open"] * len(reached)
            assert await tries(some, "tcp/plain.example/7000") == ["open"]
            outside.names.known[_PLAIN] = [*_INSIDE, *_INSIDE6]
            for kind, expected in (("A", _INSIDE), ("AAAA", _INSIDE6)):
                answered = await said(some, "dig", "@127.0.0.11", "+short", "plain.example", kind)
                assert sorted(answered.split()) == sorted(expected)
            wanted = [f"tcp/{host}/7000" for host in (*_INSIDE[2:6], "fd01::1")]
            assert await tries(some, *wanted) == ["refused"] * len(wanted)
        assert {address for *_, address in opened("all4")} == {ADDRESS}
        assert not {address for *_, address in opened("all6")} & set(_INSIDE6)

    with_engine(tmp_path, work, timeout_s=300)


def test_an_alias_opens_what_is_at_its_end_and_no_name_on_the_way(
    tmp_path: Path, outside: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        some = inside(await box(engine, "some", "a", ("plain.example:7000", "inner.example")))
        names = outside.names
        for name, to in (("plain", "hop"), ("hop", "end"), ("inner", "lan")):
            names.aliases[_wire(name)] = _wire(to)
        names.known.update({_wire("end"): [OTHER], _wire("lan"): [_LAN]})
        expected = {
            "tcp/plain.example/7000": "open",
            f"tcp/{OTHER}/7001": "refused",
            f"tcp/{ADDRESS}/7000": "refused",
            "tcp/hop.example/7000": "unknown",
            "tcp/end.example/7000": "unknown",
            "tcp/inner.example/7000": "refused",
        }
        with added(outside, _LAN):
            assert dict(zip(expected, await tries(some, *expected), strict=True)) == expected
        hints = [record.__dict__["hint"] for record in caplog.records if "private" in record.msg]
        assert hints == [f"if it is meant, list too: {_LAN}"]

    with_engine(tmp_path, work, timeout_s=300)


def _wire(label: str) -> bytes:
    name = wire_name(f"{label}.example")
    assert name is not None
    return name


def test_only_the_question_of_a_listed_name_leaves_the_host(tmp_path: Path, outside: World) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        some = await box(engine, "some", "a", ("plain.example",))
        before = len(outside.names.asked)
        await asyncio.to_thread(_smuggle, some.pid or 0)
        asked = [message for _, message in outside.names.asked[before:]]
        assert len(asked) == len(_loaded())
        assert not [message for message in asked if b"secret" in message]
        assert {message[2:] for message in asked} == {bare(read_query(m))[2:] for m in asked}
        assert all(read_query(message).name == _PLAIN for message in asked)

    with_engine(tmp_path, work, timeout_s=300)


def _smuggle(pid: int) -> None:
    """Ask for what is listed, with more in the message than that, and for what is not."""
    with (
        open(f"/proc/{pid}/ns/net", "rb") as namespace,
        closing(Asker(namespace.fileno()).socket()) as own,
    ):
        for message in (*_refused(), *_loaded()):
            own.send(message)
            assert own.recv(4096)


def _loaded() -> list[bytes]:
    """Return queries for a listed name that are answered, with data besides the question."""
    question = wire("plain.example")
    one_more = question[:11] + b"\x01" + question[12:]
    option = struct.pack("!HH", 65001, 6) + b"secret"
    opt = b"\0" + struct.pack("!HHIH", 41, 4000, 0x7FFF, len(option)) + option
    record = b"\0" + struct.pack("!HHIH", 16, 1, 7, 7) + b"\x06secret"
    return [question + b"secret", one_more + opt, one_more + record]


def _refused() -> list[bytes]:
    """Return queries that say something by the name alone, or by what else there is to ask."""
    question = wire("plain.example")
    two = question[:5] + b"\x02" + question[6:] + wire("secret.example")[12:]
    update = question[:2] + b"\x28\x00" + question[4:]
    return [wire("secret.plain.example"), wire("secret.example", 16), two, update]


def test_no_other_name_server_is_reached(tmp_path: Path, outside: World) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24", "fd01::/64")
        some = inside(await box(engine, "some", "a", ("plain.example:7000",)))
        free = inside(await box(engine, "free", "a"))
        here = Upstream(None, "10.1.0.1", {_PLAIN: [ADDRESS]})
        with closing(here):
            for server in (NAMESERVER, "10.1.0.1"):
                command = ["dig", f"@{server}", "+short", "+tries=1", "+time=4", "plain.example"]
                assert (await said(free, *command)).strip() == ADDRESS
                before = len(outside.names.asked) + len(here.asked)
                for words in ((), ("+tcp",)):
                    done = await said(["sh", "-c", '"$@" || true', "sh", *some], *command, *words)
                    assert ADDRESS not in done
                assert len(outside.names.asked) + len(here.asked) == before
        wanted = [f"udp/{NAMESERVER}/53", f"tcp/{NAMESERVER}/853", "udp/fd01::1/53"]
        assert await tries(some, *wanted) == ["refused"] * len(wanted)

    with_engine(tmp_path, work, timeout_s=300)
