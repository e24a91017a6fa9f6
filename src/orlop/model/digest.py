"""Digests: the names of blobs. OCI image spec, descriptor.md "Digests"."""

import re
from collections.abc import Sequence
from typing import NewType

from orlop.errors import InvalidArgumentError

Digest = NewType("Digest", str)
DiffID = NewType("DiffID", str)  # digest of a layer's uncompressed tar

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_DIGEST = re.compile(r"(?P<algorithm>sha256|sha512):(?P<hex>[0-9a-f]+)")


def parse_digest(text: str) -> Digest:
    """Return *text* as a digest whose algorithm we can verify.

    Raises InvalidArgumentError for anything else; a digest is safe in a path.
    """
    match = _DIGEST.fullmatch(text)
    if match is None or len(match["hex"]) != _HEX_LENGTH[match["algorithm"]]:
        raise InvalidArgumentError(
            f"invalid digest {text[:200]!r}", hint="expected sha256: and 64 lower-case hex digits"
        )
    return Digest(text)


def split_digest(digest: Digest) -> tuple[str, str]:
    """Return the algorithm and the hex part."""
    algorithm, _, hexadecimal = digest.partition(":")
    return algorithm, hexadecimal


def chain_id(diff_ids: Sequence[DiffID]) -> str:
    """Return the ChainID of layers, bottom first. OCI image spec, config.md "Layer ChainID"."""
    import hashlib  # rarely needed, and slow to import

    first, *others = diff_ids
    chain = str(first)
    for diff_id in others:
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}"
    return chain
