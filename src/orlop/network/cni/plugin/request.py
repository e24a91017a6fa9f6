"""A plugin's input, its environment and stdin, checked, as one value."""

from __future__ import annotations

from orlop.errors import CorruptError, InvalidArgumentError, OrlopError
from orlop.model import jsontext
from orlop.model.light import NamedTuple
from orlop.network.cni import failure, names, result, versions
from orlop.network.cni.failure import RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from orlop.network.cni.result import Result

#: The variables that each command needs.
_NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
    "VERSION": (),
}
_MOST_CONFIGURATION = 1 << 20


class Request(NamedTuple):
    """A command, with its configuration."""

    command: str
    configuration: Mapping[str, Any]
    environment: Mapping[str, str]
    network: str = ""
    version: str = versions.LATEST
    container: str = ""
    namespace: str = ""
    interface: str = ""

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders with delegates."""
        return tuple(filter(None, self.environment.get("CNI_PATH", "").split(":")))

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments in CNI_ARGS."""
        pairs = filter(None, self.environment.get("CNI_ARGS", "").split(";"))
        return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """The runtime's arguments for this attachment, by capability."""
        told = self.configuration.get("runtimeConfig") or {}
        if not isinstance(told, dict):
            raise InvalidArgumentError("runtimeConfig is not a JSON object")
        return told

    def previous(self) -> Result | None:
        """Return the result of the plugins before this one, or of ADD, None if not given."""
        document = self.configuration.get("prevResult")
        if document is None:
            return None
        return result.parse(document, where="prevResult")

    def valid(self) -> set[tuple[str, str]]:
        """Return the containers and interfaces that GC must keep."""
        told = self.configuration.get("cni.dev/valid-attachments")
        if told is None:
            told = self.configuration.get("cni.dev/attachments")
        if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
            raise InvalidArgumentError("cni.dev/valid-attachments is not a list of objects")
        return {(str(one.get("containerID")), str(one.get("ifname"))) for one in told}


def read(environment: Mapping[str, str], text: bytes) -> Request:
    """Return the request; RefusedError, with a number of CNI's, if it is invalid."""
    command = environment.get("CNI_COMMAND", "")
    if command not in _NEEDED:
        raise RefusedError(
            failure.INVALID_ENVIRONMENT, f"CNI_COMMAND is {command!r}", ", ".join(_NEEDED)
        )
    missing = [name for name in _NEEDED[command] if not environment.get(name)]
    if missing:
        raise RefusedError(
            failure.INVALID_ENVIRONMENT, f"{command} needs {', '.join(missing)} in its environment"
        )
    request = Request(command, _document(text, command), environment)
    if command == "VERSION":
        return request
    version = _version(request)
    name = request.configuration.get("name")
    try:
        names.check_network(name if isinstance(name, str) else "")
    except OrlopError as error:
        raise RefusedError(failure.INVALID_CONFIGURATION, str(error)) from error
    request = request._replace(network=str(name), version=version)
    return _of_an_attachment(request, environment) if _NEEDED[command] else request


def _of_an_attachment(request: Request, environment: Mapping[str, str]) -> Request:
    container, interface = environment["CNI_CONTAINERID"], environment["CNI_IFNAME"]
    for name, check, value in (
        ("CNI_CONTAINERID", names.check_container, container),
        ("CNI_IFNAME", names.check_interface, interface),
    ):
        try:
            check(value)
        except OrlopError as error:
            raise RefusedError(failure.INVALID_ENVIRONMENT, f"{name}: {error}") from error
    namespace = environment.get("CNI_NETNS", "")
    return request._replace(container=container, namespace=namespace, interface=interface)


def _document(text: bytes, command: str) -> dict[str, Any]:
    if len(text) > _MOST_CONFIGURATION:
        raise RefusedError(failure.IO_FAILURE, "the configuration on stdin is larger than 1 MiB")
    if command == "VERSION" and not text.strip():
        return {}
    try:
        document = jsontext.loads(text)
    except CorruptError as error:
        raise RefusedError(
            failure.DECODING_FAILURE, "the configuration on stdin is not JSON", str(error)
        ) from error
    if not isinstance(document, dict):
        raise RefusedError(
            failure.DECODING_FAILURE, "the configuration on stdin is not a JSON object"
        )
    return document


def _version(request: Request) -> str:
    version = request.configuration.get("cniVersion") or "0.1.0"
    if version not in versions.SUPPORTED:
        raise RefusedError(
            failure.INCOMPATIBLE_VERSION,
            f"the configuration is of CNI version {version}",
            f"this plugin has {', '.join(versions.SUPPORTED)}",
        )
    least = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}.get(request.command, version)
    if versions.numbers(version) < versions.numbers(least):
        raise RefusedError(
            failure.INCOMPATIBLE_VERSION, f"CNI version {version} has no {request.command}"
        )
    return str(version)
