"""Limits of bandwidth, as Kubernetes' annotations name them."""

import re
from collections.abc import Mapping

from orlop.errors import InvalidArgumentError

INGRESS = "kubernetes.io/ingress-bandwidth"
EGRESS = "kubernetes.io/egress-bandwidth"

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|[kMGTP]|[KMGTP]i)?")
_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15} | {
    f"{letter}i": float(1 << shift)
    for letter, shift in zip("KMGTP", (10, 20, 30, 40, 50), strict=True)
}


def annotated_rate(annotations: Mapping[str, str], name: str) -> int:
    """Return the bits a second that an annotation allows; 0 if there is none."""
    text = annotations.get(name, "")
    match = _QUANTITY.fullmatch(text)
    if match is None and text:
        raise InvalidArgumentError(
            f"invalid annotation {name}={text[:100]}", hint="bits a second, such as 10M"
        )
    return int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
