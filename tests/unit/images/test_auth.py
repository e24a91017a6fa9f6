"""Challenges of registries, and what is kept of credentials."""

import msgspec

from orlop.images.auth import Credentials, parse_challenges
from orlop.images.hosts import Endpoint
from orlop.images.registry import Source
from orlop.images.transport import Tls

LOGIN = Credentials(username="me", password="pass:word")


def test_a_challenge_is_taken_apart() -> None:
    value = 'Bearer realm="https://a/t?x=1",service="s, p",scope="repository:a/b:pull,push"'
    assert parse_challenges([value, "Basic realm=x"]) == {
        "bearer": {
            "realm": "https://a/t?x=1",
            "service": "s, p",
            "scope": "repository:a/b:pull,push",
        },
        "basic": {"realm": "x"},
    }
    assert parse_challenges(["", "Negotiate", 'Bearer realm="a\\"b"']) == {
        "negotiate": {},
        "bearer": {"realm": 'a"b'},
    }


def test_secrets_are_not_shown_when_credentials_are_printed() -> None:
    assert "pass" not in repr(LOGIN)


def test_a_source_can_be_told_to_a_worker() -> None:
    source = Source(
        repository="a/b",
        endpoints=(Endpoint(url="https://x/v2", tls=Tls(authorities=("/ca",)), primary=True),),
        credentials=LOGIN,
    )
    assert msgspec.json.decode(msgspec.json.encode(source), type=Source) == source
