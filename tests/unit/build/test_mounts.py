"""The mounts of a RUN have the defaults of the Dockerfile reference."""

import pytest

from orlop.build.mounts import RunMount, parse_mount
from orlop.build.parse import parse
from orlop.errors import InvalidArgumentError

RUN = parse(b"FROM a\nRUN x").stages[0].steps[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=x", RunMount("bind", "/w/x", id="/w/x", mode=0o755, read_only=True)),
        (
            "type=bind,from=s,source=/a,dst=/x,rw",
            RunMount("bind", "/x", source="/a", origin="s", id="/x", mode=0o755),
        ),
        (
            "type=cache,target=/c,id=i,sharing=locked,uid=7,gid=8,mode=0700",
            RunMount("cache", "/c", id="i", sharing="locked", uid=7, gid=8, mode=0o700),
        ),
        (
            "type=tmpfs,target=/t,size=1k",
            RunMount("tmpfs", "/t", id="/t", mode=0o755, size_bytes=1024),
        ),
        (
            "type=secret,id=s",
            RunMount("secret", "/run/secrets/s", id="s", mode=0o400, read_only=True),
        ),
        (
            "type=secret,id=s,required",
            RunMount("secret", "/run/secrets/s", id="s", mode=0o400, read_only=True, required=True),
        ),
    ],
)
def test_a_mount_is_parsed(text: str, expected: RunMount) -> None:
    assert parse_mount(RUN, text, "/w") == expected


@pytest.mark.parametrize(
    "text",
    [
        *("type=ssh", "type=cache", "target=/..", "target=/x,what=y", "target=/x,ro=maybe"),
        *("type=cache,target=/x,sharing=no", "type=cache,target=/x,mode=9", "type=secret"),
        "type=cache,target=/x,uid=-1",
        "type=secret,id=s,env=S",
    ],
)
def test_a_wrong_mount_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^Dockerfile:2: RUN: --mount="):
        parse_mount(RUN, text, "/w")
