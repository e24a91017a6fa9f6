"""Find the engine: from options and environment to folders and a socket's address."""

from __future__ import annotations

from orlop.client.environ import variable
from orlop.errors import InvalidArgumentError

DEFAULT_ROOT = "/var/lib/orlop"
DEFAULT_RUN = "/run/orlop"
SOCKET_NAME = "orlop.sock"
#: sun_path of struct sockaddr_un, with its closing zero. unix(7).
_SOCKET_PATH_BYTES = 107


class Settings:
    """The engine to use.

    With *host*, an engine that is managed elsewhere: none is started on demand.
    Otherwise the engine with the folders *root* (state that survives a reboot) and
    *run* (other state, with the socket).
    """

    __slots__ = ("host", "root", "run")

    def __init__(self, *, root: str, run: str, host: str | None) -> None:
        self.root = root
        self.run = run
        self.host = host

    @property
    def address(self) -> Address:
        """The socket to connect to."""
        return parse_host(self.host) if self.host else Address(f"{self.run}/{SOCKET_NAME}", None)


class Address:
    """A unix socket's path, or a TCP host and port."""

    __slots__ = ("path", "tcp")

    def __init__(self, path: str | None, tcp: tuple[str, int] | None) -> None:
        self.path = path
        self.tcp = tcp

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.tcp is None else f"tcp://{self.tcp[0]}:{self.tcp[1]}"


def settings(
    *, root: str | None = None, run: str | None = None, host: str | None = None
) -> Settings:
    """Return the settings: from the arguments, else the environment, else the defaults.

    DOCKER_HOST is for the docker command: a user who has set it means Docker's engine.
    """
    chosen_root = root or variable("ORLOP_ROOT") or DEFAULT_ROOT
    chosen_run = run or variable("ORLOP_RUN") or DEFAULT_RUN
    chosen_host = host or (None if run else variable("ORLOP_HOST")) or None
    return Settings(root=_absolute(chosen_root), run=_absolute(chosen_run), host=chosen_host)


def _absolute(path: str) -> str:
    if path.startswith("/") and "//" not in path and "/." not in path and not path.endswith("/"):
        return path
    from os.path import abspath  # rare, and slow to import

    return abspath(path)


def parse_host(text: str) -> Address:
    """Parse an address: unix://PATH, tcp://HOST:PORT or a plain path."""
    scheme, separator, rest = text.partition("://")
    if not separator and text.startswith("/"):
        scheme, rest = "unix", text
    if scheme == "unix" and rest.startswith("/"):
        if len(rest.encode(errors="surrogateescape")) > _SOCKET_PATH_BYTES:
            raise InvalidArgumentError(
                f"socket path {rest} is longer than {_SOCKET_PATH_BYTES} bytes",
                hint="choose a shorter --run folder",
            )
        return Address(rest, None)
    host, colon, port = rest.rstrip("/").rpartition(":")
    if scheme in ("tcp", "http") and colon and host and port.isdecimal():
        return Address(None, (host.strip("[]"), int(port)))
    raise InvalidArgumentError(
        f"invalid engine address {text!r}", hint="write unix:///path/to/socket or tcp://host:port"
    )
