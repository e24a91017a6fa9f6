"""Image documents decode within limits, and say what Go's decoder would."""

import json
from typing import Any

import pytest

from orlop.errors import CorruptError
from orlop.model import image
from orlop.model.image import Descriptor
from orlop.model.platform import Platform, parse_platform, preference

A, B = (f"sha256:{letter * 64}" for letter in "ab")
DESCRIPTOR = {"mediaType": image.OCI_CONFIG, "digest": A, "size": 2}
MANIFEST: dict[str, Any] = {"schemaVersion": 2, "config": DESCRIPTOR, "layers": []}
INDEX: dict[str, Any] = {"schemaVersion": 2, "manifests": [DESCRIPTOR]}
CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": [A]},
}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_null_means_what_absence_means() -> None:
    config: dict[str, Any] = {
        "Env": None,
        "Cmd": None,
        "Labels": None,
        "Volumes": {"/data": {}},
        "OnBuild": None,
    }
    decoded = image.decode_config(as_json(CONFIG | {"config": config, "history": None}))
    assert decoded.config == image.Process(volumes={"/data": {}})


def test_a_configuration_survives_a_round_trip() -> None:
    config = image.decode_config(
        as_json(
            CONFIG
            | {
                "config": {
                    "Env": ["A=1"],
                    "Entrypoint": ["/e"],
                    "WorkingDir": "/w",
                    "ExposedPorts": {"80/tcp": {}},
                    "StopSignal": "SIGINT",
                    "Healthcheck": {"Test": ["CMD", "x"], "StartPeriod": 5},
                    "OnBuild": ["RUN x"],
                    "ArgsEscaped": True,
                },
                "os.version": "1",
                "history": [{"created_by": "x", "empty_layer": True}],
            }
        )
    )
    again = json.loads(image.encode(config))
    assert again["config"]["Healthcheck"] == {"Test": ["CMD", "x"], "StartPeriod": 5}
    assert again["config"]["OnBuild"] == ["RUN x"]
    assert again["os.version"] == "1"
    assert image.decode_config(image.encode(config)) == config


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        as_json({}),
        as_json(MANIFEST | {"layers": [DESCRIPTOR | {"digest": "sha256:../../etc"}]}),
        as_json(MANIFEST | {"layers": [DESCRIPTOR | {"size": -1}]}),
        as_json(MANIFEST | {"layers": [DESCRIPTOR] * 2000}),
        as_json(MANIFEST | {"manifests": []}),
        as_json(MANIFEST | {"mediaType": image.OCI_INDEX}),
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        as_json(MANIFEST | {"deep": json.loads("[" * 70 + "]" * 70)}),
        b" " * (image.MAX_DOCUMENT_BYTES + 1),
    ],
)
def test_a_bad_manifest_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptError):
        image.decode_manifest(data)


def test_an_index_that_is_a_manifest_too_is_corrupt() -> None:
    with pytest.raises(CorruptError):
        image.decode_index(as_json(INDEX | {"layers": []}))


def test_documents_without_a_media_type_are_told_apart() -> None:
    assert image.media_type_of(as_json(MANIFEST)) == image.OCI_MANIFEST
    assert image.media_type_of(as_json(INDEX)) == image.OCI_INDEX
    with pytest.raises(CorruptError):
        image.media_type_of(b"{}")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("arm64", "linux/arm64"),
        ("amd64/v3", "linux/amd64/v3"),
        ("LINUX/AMD64/v1", "linux/amd64"),
    ],
)
def test_a_platform_has_one_spelling(text: str, normal: str) -> None:
    assert str(parse_platform(text)) == normal


def manifest_for(name: str, platform: str | None) -> Descriptor:
    return Descriptor(
        digest=image.digest_of(name.encode()),
        size=1,
        platform=parse_platform(platform) if platform else None,
    )


def test_the_best_platform_is_chosen_whatever_the_order() -> None:
    v6, v7, arm64 = (
        manifest_for(name, f"linux/{name}") for name in ("arm/v6", "arm/v7", "arm64/v8")
    )
    on_arm64 = preference(parse_platform("linux/arm64/v8"))
    assert image.choose([v6, v7, arm64], on_arm64) == arm64
    assert image.choose([v6, v7], on_arm64) == v7
    assert image.choose([arm64, v7], preference(parse_platform("linux/arm/v6"))) is None
    assert image.choose([], on_arm64) is None


def test_attestations_are_never_chosen() -> None:
    attestation = Descriptor(
        digest=image.digest_of(b"x"), size=1, platform=Platform("unknown", "unknown")
    )
    marked = Descriptor(
        digest=image.digest_of(b"y"),
        size=1,
        annotations={image.REFERENCE_TYPE: "attestation-manifest"},
    )
    assert image.choose([attestation, marked], preference(parse_platform("amd64"))) is None
