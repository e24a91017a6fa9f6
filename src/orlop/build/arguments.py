"""Build arguments: those of the request, those of the platform, and the ARGs that use them."""

from collections.abc import Mapping

from orlop.build.expand import expand
from orlop.build.parse import Instruction
from orlop.model.platform import Platform

#: May be given without an ARG, reach every RUN, and change neither cache nor history.
PROXIES = frozenset(
    name
    for word in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (word, word.lower())
)


def of_platforms(target: Platform, build: Platform) -> dict[str, str]:
    """Return the automatic platform arguments. Dockerfile reference, "Automatic platform ARGs"."""
    found: dict[str, str] = {}
    for prefix, platform in (("TARGET", target), ("BUILD", build)):
        found |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    return found


def declared(
    one: Instruction,
    variables: Mapping[str, str],
    given: Mapping[str, str],
    *,
    inherited: Mapping[str, str],
    escape: str,
) -> dict[str, str | None]:
    """Return what an ARG declares: its value if it is *given*, *inherited* or has a default.

    InvalidArgumentError with the place of the instruction.
    """
    known = dict(variables)
    found: dict[str, str | None] = {}
    try:
        for word in one.args:
            raw, has_default, default = word.partition("=")
            name = expand(raw, known, escape=escape)
            value = given.get(name)
            if value is None and has_default:
                value = expand(default, known, escape=escape)
            elif value is None:
                value = inherited.get(name)
            found[name] = value
            if value is not None:
                known[name] = value
    except ValueError as error:
        raise one.wrong(error) from None
    if not found or "" in found:
        raise one.wrong("a name is missing")
    return found
