"""Platforms: which manifest of an index fits a machine. OCI image spec, image-index.md."""

import functools
import os
from collections.abc import Iterator

import msgspec

from orlop.errors import InvalidArgumentError

#: Names used by people and uname(2), and the names of Go, which images use.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i686": "386",
    "armhf": "arm",
    "armel": "arm",
    "armv7l": "arm",
    "armv6l": "arm",
}
_VARIANTS = {"armhf": "v7", "armel": "v6", "armv7l": "v7", "armv6l": "v6"}
_OS = {"macos": "darwin"}
_KNOWN_OS = frozenset({"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris"})
_KNOWN_ARCHITECTURES = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"}
)


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operating system and a processor; *variant* is "v8" or the like."""

    architecture: str
    os: str
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    features: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = (self.os, self.architecture, self.variant)
        return "/".join(part for part in parts if part)

    def normalized(self) -> "Platform":
        """Return the canonical form: `arm64/v8` is `arm64`, `arm` is `arm/v7`."""
        system = self.os.lower()
        given = self.architecture.lower()
        architecture = _ARCHITECTURES.get(given, given)
        variant = _normal_variant(architecture, self.variant.lower() or _VARIANTS.get(given, ""))
        return Platform(architecture, _OS.get(system, system), variant)


def _normal_variant(architecture: str, variant: str) -> str:
    if variant.isdigit():
        variant = f"v{variant}"
    implied = {"amd64": "v1", "arm64": "v8"}.get(architecture)
    if variant == implied:
        return ""
    return variant or ("v7" if architecture == "arm" else "")


def parse_platform(text: str) -> Platform:
    """Return the platform in *text*, normalized.

    *text* is OS, ARCH, ARCH/VARIANT, OS/ARCH or OS/ARCH/VARIANT; missing parts are the
    host's. InvalidArgumentError for anything else.
    """
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(part.isascii() and part.strip() for part in parts):
        raise InvalidArgumentError(
            f"invalid platform {text[:100]!r}", hint="expected OS/ARCH[/VARIANT], as in linux/arm64"
        )
    if len(parts) == 2 and parts[0].lower() in _KNOWN_ARCHITECTURES | _ARCHITECTURES.keys():
        return Platform(parts[0], "linux", parts[1]).normalized()
    if len(parts) > 1:
        return Platform(parts[1], parts[0], "/".join(parts[2:])).normalized()
    word = parts[0].lower()
    if _OS.get(word, word) in _KNOWN_OS:
        return Platform(host_platform().architecture, word).normalized()
    if _ARCHITECTURES.get(word, word) in _KNOWN_ARCHITECTURES:
        return Platform(word, "linux").normalized()
    raise InvalidArgumentError(
        f"unknown platform {text[:100]!r}", hint="expected OS/ARCH[/VARIANT], as in linux/arm64"
    )


@functools.cache
def host_platform() -> Platform:
    """Return the platform of the running kernel."""
    return Platform(os.uname().machine, "linux").normalized()


def preference(platform: Platform) -> list[Platform]:
    """Return the platforms that run on *platform*, best first.

    A processor runs the older variants of its own architecture, amd64 also runs 386 code,
    and arm64 the 32-bit arm variants.
    """
    wanted = platform.normalized()
    return [
        Platform(architecture, wanted.os, variant).normalized()
        for architecture, variant in _runnable(wanted.architecture, wanted.variant)
    ]


def _runnable(architecture: str, variant: str) -> Iterator[tuple[str, str]]:
    yield architecture, variant
    level = int(variant[1:]) if variant[1:].isdigit() else 0
    match architecture:
        case "amd64":
            yield from (("amd64", f"v{lower}") for lower in range(level - 1, 0, -1))
            yield "386", ""
        case "arm":
            yield from (("arm", f"v{lower}") for lower in range(level - 1, 4, -1))
        case "arm64":
            yield from (("arm64", f"v{lower}") for lower in range(level - 1, 7, -1))
            yield from (("arm", f"v{lower}") for lower in range(max(level, 8), 4, -1))
