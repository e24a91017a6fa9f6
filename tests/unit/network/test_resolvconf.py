"""What containers get of the host's resolv.conf."""

import pytest

from orlop.network.dns.resolvconf import (
    ResolvConf,
    answered,
    overridden,
    parse,
    reachable,
    render,
)

HOST = """\
# made by hand
nameserver 192.0.2.1
nameserver  fe80::1%eth0 ; a comment
nameserver bad.example
domain old.example
search corp.example lan
options edns0 trust-ad
options timeout:1
"""


def test_a_file_is_read_as_the_c_library_does() -> None:
    assert parse(HOST) == ResolvConf(
        ("192.0.2.1", "fe80::1%eth0"), ("corp.example", "lan"), ("edns0", "trust-ad", "timeout:1")
    )
    assert parse("domain a b\n").search == ("a",)
    assert parse("") == ResolvConf()
    assert parse("nameserver\nsearch\n;\n") == ResolvConf()


def test_what_was_written_is_read_back() -> None:
    assert parse(render(parse(HOST))) == parse(HOST)


def test_the_engine_is_the_only_server_of_whom_it_answers() -> None:
    text = render(answered(parse(HOST)))
    assert text == (
        "nameserver 127.0.0.11\nsearch corp.example lan\noptions edns0 trust-ad timeout:1 ndots:0\n"
    )
    assert answered(ResolvConf(options=("ndots:2",))).options == ("ndots:2",)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ResolvConf(), ResolvConf(("1.1.1.1",), ("lan",), ("edns0",))),
        (ResolvConf(("9.9.9.9",)), ResolvConf(("9.9.9.9",), ("lan",), ("edns0",))),
        (ResolvConf(search=(".",)), ResolvConf(("1.1.1.1",), (), ("edns0",))),
        (ResolvConf(options=("rotate",)), ResolvConf(("1.1.1.1",), ("lan",), ("rotate",))),
    ],
)
def test_what_a_container_asks_for_comes_before_the_hosts(
    wanted: ResolvConf, expected: ResolvConf
) -> None:
    assert overridden(ResolvConf(("1.1.1.1",), ("lan",), ("edns0",)), wanted) == expected


def test_servers_on_the_hosts_loopback_are_not_for_containers() -> None:
    conf = ResolvConf(("127.0.0.53", "::1", "192.0.2.1", "2001:db8::1"))
    assert reachable(conf, ipv6=True).servers == ("192.0.2.1", "2001:db8::1")
    assert reachable(conf, ipv6=False).servers == ("192.0.2.1",)
