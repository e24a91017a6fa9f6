"""Image references as Docker writes them: `alpine`, `localhost:5000/a/b:1@sha256:…`.

Grammar and limits: distribution's reference documentation; the short form
("familiar") with its docker.io and library/ defaults is the Docker command line's.
"""

import re
from typing import NamedTuple

from orlop.errors import InvalidArgumentError
from orlop.model.digest import Digest, parse_digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_NAME = 255

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")


class Reference(NamedTuple):
    """Where an image is: a repository, and a tag, a digest, or both in it."""

    domain: str  # host and perhaps port
    path: str  # repository within the host
    tag: str | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """The repository with its host: `docker.io/library/alpine`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: `alpine`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        short = self.path.removeprefix(_OFFICIAL)
        return short if "/" not in short else self.path

    @property
    def familiar(self) -> str:
        """The whole reference as people write it: `alpine:3.22`."""
        return self.familiar_name + self._suffix()

    @property
    def target(self) -> str:
        """What to ask a registry for; the digest wins over the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    def with_tag(self, tag: str) -> "Reference":
        """Return it with this tag; InvalidArgumentError if *tag* cannot be one."""
        _check_tag(f"{self.name}:{tag}", tag)
        return self._replace(tag=tag)

    def __str__(self) -> str:
        """Return the canonical form: `docker.io/library/alpine:3.22`."""
        return self.name + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str, *, default_tag: str | None = DEFAULT_TAG) -> Reference:
    """Return the image that *text* names; InvalidArgumentError if it cannot name one.

    Where there is neither tag nor digest the tag is *default_tag*.
    """
    if _IMAGE_ID.fullmatch(text):
        raise _invalid(text, "64 hex digits are an image id, not a name")
    rest, at, digest_text = text.partition("@")
    digest = _parse_digest(text, digest_text) if at else None
    name, tag = _split_tag(rest)
    if tag is not None:
        _check_tag(text, tag)
    domain, path = _split_domain(name)
    _check_name(text, domain, path)
    if tag is None and digest is None:
        tag = default_tag
    return Reference(domain, path, tag, digest)


def new_name(text: str) -> Reference:
    """Return the name that *text* gives to an image here; InvalidArgumentError for one with a
    digest, or named like a digest's algorithm: "sha256:abc" is an image's id.
    """
    reference = parse_reference(text)
    if reference.digest is not None:
        raise InvalidArgumentError(
            f"{text} has a digest", hint="a name that is given to an image has a tag only"
        )
    if reference.familiar_name == "sha256":
        raise InvalidArgumentError(
            "refusing to create an ambiguous tag using digest algorithm as name"
        )
    return reference


def _parse_digest(text: str, digest: str) -> Digest:
    try:
        return parse_digest(digest)
    except InvalidArgumentError as error:
        raise _invalid(text, str(error)) from None


def _split_tag(text: str) -> tuple[str, str | None]:
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:  # the colon is a port's
        return text, None
    return name, tag


def _check_tag(text: str, tag: str) -> None:
    if not _TAG.fullmatch(tag):
        raise _invalid(text, "a tag is letters, digits, '_', '.' and '-', at most 128 of them")


def _split_domain(name: str) -> tuple[str, str]:
    """Tell a host from the first folder of a path as Docker does."""
    first, slash, rest = name.partition("/")
    is_domain = slash and (
        "." in first or ":" in first or first == "localhost" or first.lower() != first
    )
    domain, path = (first, rest) if is_domain else (DEFAULT_DOMAIN, name)
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def _check_name(text: str, domain: str, path: str) -> None:
    if not _DOMAIN.fullmatch(domain):
        raise _invalid(text, "the host is not a host name")
    if path.lower() != path:
        raise _invalid(text, "a repository name must be lower case")
    if not _PATH.fullmatch(path):
        raise _invalid(text, "expected NAME[:TAG][@DIGEST]")
    if len(path) > _MAX_NAME:
        raise _invalid(text, f"a repository name is at most {_MAX_NAME} characters")


def _invalid(text: str, hint: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid reference {text[:300]!r}", hint=hint)
