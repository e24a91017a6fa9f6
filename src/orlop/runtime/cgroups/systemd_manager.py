"""systemd's manager, the system's or a user's: units, over D-Bus.

https://systemd.io/CONTROL_GROUP_INTERFACE/, org.freedesktop.systemd1(5)
"""

import os

from orlop.errors import (
    AlreadyExistsError,
    NotFoundError,
    OrlopError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
)
from orlop.kernel.idmap import is_of_host
from orlop.model.light import Iterator, Sequence
from orlop.runtime.cgroups.dbus import Connection, Object, RefusedError
from orlop.runtime.cgroups.systemd_properties import Property

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_BUS = Object("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_JOBS = f"type='signal',interface='{_NAME}.Manager',member='JobRemoved',path='{_PATH}'"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_AT_RUNTIME = 1  # not in a file that survives a reboot
_EXISTS = f"{_NAME}.UnitExists"
_GONE = frozenset({f"{_NAME}.NoSuchUnit", f"{_NAME}.NotLoaded"})
_DENIED = frozenset(
    {
        "org.freedesktop.DBus.Error.AccessDenied",
        "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    }
)


class Manager:
    """A connection to systemd; close it by `with`.

    Like every method, raises UnavailableError if systemd does not answer, and
    PermissionDeniedError if we have no permission.
    """

    def __init__(self, *, user: bool) -> None:
        self._connection, self._destination = _connect(user=user)
        self._watching = False

    def __enter__(self) -> "Manager":
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.__exit__(*error)

    def start_scope(self, unit: str, properties: Sequence[Property]) -> None:
        """Make the scope *unit*, and return when it exists. AlreadyExistsError."""
        self._do("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", _packed(properties), [])

    def stop(self, unit: str) -> None:
        """Stop *unit*, and return when it has stopped; a missing one is no error."""
        try:
            self._do("StopUnit", "ss", unit, "replace")
        except _GoneError:
            return

    def forget_failure(self, unit: str) -> None:
        """Free the name of a unit that has failed."""
        try:
            self._call("ResetFailedUnit", "s", unit)
        except _GoneError:
            return

    def attach(self, unit: str, pid: int) -> None:
        """Move process *pid* into *unit*, even if its user may not: systemd asks systemd."""
        self._call("AttachProcessesToUnit", "ssau", unit, "", [pid])

    def set_properties(self, unit: str, properties: Sequence[Property]) -> None:
        """Change properties of *unit* as long as it runs."""
        self._call("SetUnitProperties", "sba(sv)", unit, _AT_RUNTIME, _packed(properties))

    def control_group(self, unit: str) -> str:
        """Return the path of the unit's cgroup."""
        place = Object(self._destination, f"{_PATH}/unit/{_escaped(unit)}", _PROPERTIES)
        (path,) = _translated(
            self._connection, place, "Get", "ss", (f"{_NAME}.Scope", "ControlGroup")
        )
        return str(path)

    def _call(self, member: str, signature: str, *values: object) -> tuple[object, ...]:
        manager = Object(self._destination, _PATH, f"{_NAME}.Manager")
        return _translated(self._connection, manager, member, signature, values)

    def _do(self, member: str, signature: str, *values: object) -> None:
        """Make a call that starts a job, and wait for the job's end."""
        self._watch()
        (job,) = self._call(member, signature, *values)
        try:
            for signal in self._connection.signals():
                if signal.member == "JobRemoved" and signal.values[1] == job:
                    break
        except OSError as error:
            raise _unavailable(error) from error
        if signal.values[3] not in ("done", "skipped"):
            raise OrlopError(f"systemd: {member} of {values[0]} ended as {signal.values[3]!r}")

    def _watch(self) -> None:
        if self._watching:
            return
        if self._destination:
            _translated(self._connection, _BUS, "AddMatch", "s", (_JOBS,))
        self._call("Subscribe", "")
        self._watching = True


class _GoneError(NotFoundError):
    """The unit does not exist."""


def is_of_user() -> bool:
    """Whether our systemd is a user's: an ordinary user's, or that of a user namespace's root."""
    return os.geteuid() != 0 or not is_of_host()


def _connect(*, user: bool) -> tuple[Connection, str]:
    """Connect to systemd by the bus, or, if there is none, by its own socket."""
    last: OSError | None = None
    for address, destination in _addresses(user=user):
        try:
            connection = Connection(address)
        except OSError as error:
            last = last or error
            continue
        if destination:
            _translated(connection, _BUS, "Hello", "", ())
        return connection, destination
    assert last is not None
    raise _unavailable(last) from last


def _addresses(*, user: bool) -> Iterator[tuple[str, str]]:
    if user:
        folder = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
        named = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
        yield from ((address, _NAME) for address in _sockets(named) or [f"{folder}/bus"])
        yield f"{folder}/systemd/private", ""
        return
    named = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "")
    yield from ((address, _NAME) for address in _sockets(named) or ["/run/dbus/system_bus_socket"])
    yield "/run/systemd/private", ""


def _sockets(addresses: str) -> list[str]:
    """Parse "unix:path=/run/x,guid=1;unix:abstract=y". D-Bus, "Server Addresses"."""
    found = []
    for address in addresses.split(";"):
        transport, _, rest = address.partition(":")
        pairs = dict(pair.partition("=")[::2] for pair in rest.split(","))
        if transport == "unix" and "path" in pairs:
            found.append(_unescaped(pairs["path"]))
        elif transport == "unix" and "abstract" in pairs:
            found.append("\0" + _unescaped(pairs["abstract"]))
    return found


def _unescaped(text: str) -> str:
    first, *rest = text.split("%")
    return first + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)


def _escaped(unit: str) -> str:
    """Spell a unit's name as part of an object path: all but letters and digits in hex."""
    return "".join(
        letter if letter.isascii() and letter.isalnum() else f"_{ord(letter):02x}"
        for letter in unit
    )


def _packed(properties: Sequence[Property]) -> list[tuple[str, tuple[str, object]]]:
    return [(name, (signature, value)) for name, signature, value in properties]


def _translated(
    connection: Connection, to: Object, member: str, signature: str, values: Sequence[object]
) -> tuple[object, ...]:
    try:
        return connection.call(to, member, signature, *values)
    except OSError as error:
        raise _unavailable(error) from error
    except RefusedError as error:
        if error.name in _GONE:
            raise _GoneError(f"systemd: {error}") from error
        if error.name == _EXISTS:
            raise AlreadyExistsError(f"systemd: {error}") from error
        if error.name in _DENIED:
            raise PermissionDeniedError(f"systemd: {error}", hint="it takes root") from error
        raise UnsupportedError(f"systemd refuses {member}: {error}") from error


def _unavailable(error: OSError) -> OrlopError:
    if isinstance(error, PermissionError):
        return PermissionDeniedError(f"no permission to talk to systemd: {error.strerror or error}")
    reason = (error.strerror or str(error)).lower()
    return UnavailableError(
        f"systemd does not answer: {reason}",
        hint="without it, use the cgroup driver cgroupfs",
    )
