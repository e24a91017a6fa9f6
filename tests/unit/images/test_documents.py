"""Documents of images that strangers wrote: what reading one may cost is bounded."""

import json
from collections.abc import Callable

import pytest

from orlop.errors import CorruptError
from orlop.model.image import (
    MAX_DOCUMENT_BYTES,
    Index,
    decode_config,
    decode_index,
    decode_manifest,
    encode,
)

_DIGEST = "sha256:" + 64 * "0"
_BLOB = {"digest": _DIGEST, "size": 1}


def _filled(part: str) -> bytes:
    count = MAX_DOCUMENT_BYTES // (len(part) + 1) - 100
    return b'{"a":[' + ",".join([part] * count).encode() + b"]}"


@pytest.mark.parametrize("decode", [decode_config, decode_manifest, decode_index])
@pytest.mark.parametrize(
    ("document", "why"),
    [
        (_filled("[]"), "too many parts"),
        (_filled("{}"), "too many parts"),
        (_filled("0"), "too many parts"),
        (_filled(20 * "[" + 20 * "]"), "too many parts"),
        (b"{" + b",".join([b'"a":{}'] * 1_000_000) + b"}", "too many parts"),
        (b"[" * 90_000, "recursion"),
        (b'{"a":' * 90_000, "recursion"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "deeper than"),
        (b'{"schemaVersion":' + b"9" * 8_000_000 + b"}", "out of range"),
        (b'{"schemaVersion":1e99999}', "out of range"),
        (b" " * (MAX_DOCUMENT_BYTES + 1), "larger than"),
    ],
)
def test_a_document_that_would_cost_much_is_refused(
    decode: Callable[[bytes], object], document: bytes, why: str
) -> None:
    with pytest.raises(CorruptError, match=why):
        decode(document)


def test_the_last_of_equal_keys_counts() -> None:
    text = '{"schemaVersion":2,"manifests":[],"manifests":[' + json.dumps(_BLOB) + "]}"
    assert len(decode_index(text.encode()).manifests) == 1


def test_documents_of_the_largest_images_are_read() -> None:
    index = decode_index(json.dumps({"schemaVersion": 2, "manifests": [_BLOB]}).encode())
    many = Index(schema_version=2, manifests=index.manifests * 10_000)
    assert len(decode_index(encode(many)).manifests) == 10_000
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {f"label-{n}": "x" * 400 for n in range(10_000)}},
        "rootfs": {"type": "layers", "diff_ids": [_DIGEST] * 1000},
        "history": [{"created_by": "RUN x"}] * 5000,
    }
    assert len(decode_config(json.dumps(config).encode()).rootfs.diff_ids) == 1000
