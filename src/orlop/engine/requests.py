"""What a caller of the engine asks for, where a few parameters do not say it."""

from collections.abc import Mapping, Sequence

import msgspec

from orlop.model.container import Resources, RestartPolicy
from orlop.model.network import Subnet

#: Docker's filters: a name, and the values of which one must fit ("label": all must).
Filters = Mapping[str, Sequence[str]]
NO_FILTERS: Filters = {}


class AttachRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which streams to join to a client's socket."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    stream: bool = True  # False: only what is logged already
    logs: bool = False  # first what is logged already
    detach_keys: str = "ctrl-p,ctrl-q"
    pending: bytes = b""  # what the client sent before the hand-over
    framed: bool = True  # which stream it is stands before each piece


class LogRequest(msgspec.Struct, frozen=True, kw_only=True):
    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    until_ns: int = 0  # 0: no end
    tail: int | None = None  # None: all
    follow: bool = False


class PutOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How `cp` into a container treats what is there."""

    no_overwrite_dir_non_dir: bool = False
    copy_uid_gid: bool = False  # owner: the container's user, not the archive's
    user: str | None = None  # owner: this user, by name or number; "" for the container's or root


class UpdateRequest(msgspec.Struct, frozen=True, kw_only=True):
    resources: Resources = Resources()
    restart: RestartPolicy | None = None


class CommitRequest(msgspec.Struct, frozen=True, kw_only=True):
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()  # Dockerfile instructions
    pause: bool = True


class NetworkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A network to make; what is empty is chosen."""

    name: str
    driver: str = "bridge"
    internal: bool = False
    attachable: bool = False
    ipv4: bool = True
    ipv6: bool = False
    subnets: tuple[Subnet, ...] = ()
    ipam_options: dict[str, str] | None = None
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says it is to a registry. Never logged, never stored."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    server: str = ""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, …)"
