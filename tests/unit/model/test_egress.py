"""Destinations as people write them."""

import pytest

from orlop.errors import InvalidArgumentError
from orlop.model.egress import Destination, parse, parse_all


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pypi.org:443", Destination("", "pypi.org", "tcp", 443, 443)),
        (" *.Example.COM.:443 ", Destination("", "*.example.com", "tcp", 443, 443)),
        ("db", Destination("", "db")),
        ("udp:time.example:123", Destination("", "time.example", "udp", 123, 123)),
        ("dead:1", Destination("", "dead", "tcp", 1, 1)),
        ("10.1.0.0/16", Destination("10.1.0.0/16")),
        ("192.0.2.7:5432", Destination("192.0.2.7/32", "", "tcp", 5432, 5432)),
        ("0.0.0.0/0:80-443", Destination("0.0.0.0/0", "", "tcp", 80, 443)),
        ("udp:198.51.100.0/24:123", Destination("198.51.100.0/24", "", "udp", 123, 123)),
        ("sctp:192.0.2.7", Destination("192.0.2.7/32", "", "sctp", 1, 65535)),
        ("2001:db8::/32", Destination("2001:db8::/32")),
        ("tcp:dead::beef", Destination("dead::beef/128", "", "tcp", 1, 65535)),
        ("[2001:db8::1]:443", Destination("2001:db8::1/128", "", "tcp", 443, 443)),
        ("udp:[2001:db8::]/32:53", Destination("2001:db8::/32", "", "udp", 53, 53)),
    ],
)
def test_what_is_meant(text: str, expected: Destination) -> None:
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "*.", "a..b", "-a.example", "x" * 64, "8000", "1.2.3", "10.1.2.3/16",
        "10.0.0.0/33", "tcp:", "tcp:name", "name:1-2", "name:", "name:0", "name:65536",
        "1.2.3.4:9-8", "1.2.3.4:-8", "http://name", "name:443/tcp", "fe80::1%eth0", "[::1",
        "[::1]x", "::1]:5", "a b", "a\nb", "münchen.example", "1.2.3.4; flush ruleset", '"',
        "tcp:udp:1.2.3.4:5", "::1:443:x",
    ],
)  # fmt: skip
def test_what_is_no_destination(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid egress destination"):
        parse(text)


def test_each_is_there_once_and_not_too_many() -> None:
    assert len(parse_all(["a.example:1", "A.example.:1", "tcp:a.example:1"])) == 1
    with pytest.raises(InvalidArgumentError, match="257 entries"):
        parse_all(f"10.0.{number // 256}.{number % 256}" for number in range(257))
