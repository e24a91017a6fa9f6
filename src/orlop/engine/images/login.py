"""Check credentials with a registry."""

from orlop.engine.images.transfer import credentials_for
from orlop.engine.requests import Credentials
from orlop.engine.threads import abroad
from orlop.images.registry import Registry, source_of
from orlop.model.reference import DEFAULT_DOMAIN, Reference

_LEGACY = "index.docker.io"


async def login(credentials: Credentials) -> str:
    """Try them; "" on success. PermissionDeniedError, UnavailableError."""
    server = credentials.server.removeprefix("https://").removeprefix("http://")
    domain = server.partition("/")[0] or DEFAULT_DOMAIN
    domain = DEFAULT_DOMAIN if domain == _LEGACY else domain
    source = source_of(Reference(domain, ""), credentials_for(credentials))

    def ask() -> None:
        with Registry(source) as registry:
            registry.ping()

    await abroad(ask)
    return ""
