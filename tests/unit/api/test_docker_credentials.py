"""X-Registry-Auth, as Docker's clients write it."""

import base64
import json
from types import SimpleNamespace
from typing import cast

import pytest

from orlop.api.docker.answers import credentials_of
from orlop.api.messages import Request
from orlop.engine.requests import Credentials
from orlop.errors import InvalidArgumentError


def header(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


def request(text: str) -> Request:
    return cast(Request, SimpleNamespace(headers={"x-registry-auth": text}))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, None),
        (
            {"username": "me", "password": "pass:word", "serveraddress": "x", "email": ""},
            Credentials(server="x", username="me", password="pass:word"),
        ),
        (
            {"auth": base64.b64encode(b"me:pass:word").decode()},
            Credentials(username="me", password="pass:word"),
        ),
        ({"identitytoken": "t"}, Credentials(identity_token="t")),
        ({"registrytoken": "t"}, Credentials(registry_token="t")),
    ],
)
def test_the_header_of_an_api_request_carries_a_login(
    document: object, expected: Credentials | None
) -> None:
    assert credentials_of(request(header(document))) == expected
    assert credentials_of(request(header(document).rstrip("="))) == expected


@pytest.mark.parametrize("text", ["bm8gSlNPTg==", header([1]), header({"username": 7}), "a"])
def test_a_header_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="X-Registry-Auth"):
        credentials_of(request(text))


def test_no_header_is_nobody() -> None:
    assert credentials_of(request("")) is None
