"""References parse as Docker's do."""

import pytest

from orlop.errors import InvalidArgumentError
from orlop.model.reference import new_name, parse_reference

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.22", "docker.io/library/alpine:3.22", "alpine:3.22"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/alpine:1", "docker.io/library/alpine:1", "alpine:1"),
        ("docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/a/b/c:1", "localhost:5000/a/b/c:1", "localhost:5000/a/b/c:1"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest", "127.0.0.1:5000/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("quay.io/a__b-c---d.e/f_g:T_1.x-", "quay.io/a__b-c---d.e/f_g:T_1.x-", None),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
        (f"alpine:3@{DIGEST}", f"docker.io/library/alpine:3@{DIGEST}", f"alpine:3@{DIGEST}"),
        ("HOST/app", "HOST/app:latest", "HOST/app:latest"),
    ],
)
def test_a_reference_has_a_canonical_and_a_familiar_form(
    text: str, canonical: str, familiar: str | None
) -> None:
    reference = parse_reference(text)
    assert str(reference) == canonical
    assert reference.familiar == (familiar or canonical)
    assert parse_reference(canonical) == reference
    assert hash(parse_reference(reference.familiar)) == hash(reference)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ":", "a:", "a@", "/a", "a/", "a//b", "Alpine", "localhost/Upper", "a b", "-a",
        "a..b", "a___b", ".a", "a:b:c", "a:-x", "a:" + "t" * 129, f"a@sha256:{HEX[:-1]}", "a-",
        f"a@sha256:{HEX.upper()}", f"a@md5:{HEX}", HEX, "x/" + "a" * 260, "host.:5000/a",
        "https://host/app", "../etc", "a/../b", "host.io/../a", "a\n", "ä", "[::1/a",
        "a:t\n", "host:port/a",
    ],
)  # fmt: skip
def test_what_cannot_name_an_image_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_reference(text)


@pytest.mark.parametrize("text", ["sha256", "sha256:abc", f"a@{DIGEST}", "docker.io/sha256:x"])
def test_no_image_is_named_like_a_digest(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        new_name(text)


def test_the_longest_tag_and_name_pass() -> None:
    assert parse_reference("a:" + "t" * 128).tag == "t" * 128
    assert parse_reference("host.io/" + "a" * 255).path == "a" * 255


def test_a_digest_wins_over_a_tag_when_a_registry_is_asked() -> None:
    assert parse_reference(f"a:1@{DIGEST}").target == DIGEST
    assert parse_reference("a:1").target == "1"


def test_no_tag_is_added_where_none_is_wanted() -> None:
    assert parse_reference("alpine", default_tag=None).familiar == "alpine"
