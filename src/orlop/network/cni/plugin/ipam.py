"""The source of addresses: our own leases, or the plugin in `ipam.type`."""

from __future__ import annotations

from orlop.errors import CorruptError, InvalidArgumentError, OrlopError
from orlop.network.cni import failure, program, result
from orlop.network.cni.failure import RefusedError
from orlop.network.cni.plugin.leases import FOLDER, Leases, parse_range
from orlop.network.cni.program import Plugins
from orlop.network.cni.result import Address, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from orlop.network.cni.plugin.leases import Range
    from orlop.network.cni.plugin.request import Request

NAME = "orlop-cni"
_TIMEOUT_S = 60.0


def kind(request: Request) -> str:
    """Return the plugin that allocates addresses, "" if the network has none."""
    given = request.configuration.get("ipam") or {}
    if not isinstance(given, dict) or not isinstance(given.get("type") or "", str):
        raise InvalidArgumentError("ipam is not a JSON object with a type")
    return given.get("type") or ""


def add(request: Request) -> Result:
    """Allocate and return the attachment's addresses and routes."""
    who = kind(request)
    if not who:
        return Result()
    if who == NAME:
        return _take(request)
    try:
        out = _delegate(request, who)
        told = result.parse(program.document_of(who, "ADD", out), where=f"CNI plugin {who}")
        if not told.ips:
            raise CorruptError(f"CNI plugin {who} gave no address")
    except OrlopError:
        delete(request)
        raise
    return told


def delete(request: Request) -> None:
    """Release what add() returned; nothing to release is no error."""
    who = kind(request)
    if who == NAME:
        # All its leases, not those in prevResult: a killed ADD has reported none.
        _leases(request).release(lambda owner: owner == _owner(request))
    elif who:
        _delegate(request, who, "DEL")


def leased(request: Request, addresses: Iterable[str]) -> set[str]:
    """Return those interface addresses for which the attachment has a lease of ours."""
    if kind(request) != NAME:
        return set()
    return {
        one for one in addresses if _leases(request).has(_owner(request), one.partition("/")[0])
    }


def check(request: Request) -> None:
    """Raise an error if an address of the attachment has no lease any more."""
    who = kind(request)
    if who == NAME:
        previous = request.previous() or Result()
        told = {ip.address.partition("/")[0] for ip in previous.ips}
        mine = _leases(request).of(_owner(request))
        if not mine or not told.issuperset(mine):
            raise OrlopError(f"{_owner(request)} has not the addresses {', '.join(sorted(told))}")
    elif who:
        _delegate(request, who)


def collect(request: Request) -> None:
    """Release the leases that belong to no valid attachment."""
    who = kind(request)
    if who == NAME:
        keep = {f"{container}@{interface}" for container, interface in request.valid()}
        _leases(request).release(lambda owner: owner not in keep)
    elif who:
        _delegate(request, who)


def status(request: Request) -> None:
    """Raise an error if no address could be allocated now."""
    who = kind(request)
    if who == NAME:
        if _leases(request).is_full(_ranges(request)):
            text = f"network {request.network} has no address left"
            raise RefusedError(failure.NOT_AVAILABLE, text)
    elif who:
        _delegate(request, who)


def _take(request: Request) -> Result:
    sets = _ranges(request)
    found = _leases(request).take(_owner(request), sets, _wanted(request))
    ips = tuple(
        Address(f"{one.text(value)}/{one.prefix}", one.text(one.gateway)) for one, value in found
    )
    routes = result.parse({"routes": _settings(request).get("routes")}, where="ipam").routes
    return Result(ips=ips, routes=routes)


def _settings(request: Request) -> dict[str, Any]:
    settings: dict[str, Any] = request.configuration["ipam"]
    return settings


def _ranges(request: Request) -> list[list[Range]]:
    given = request.capabilities.get("ipRanges") or _settings(request).get("ranges")
    if not given and "subnet" in _settings(request):
        given = [[_settings(request)]]
    if not isinstance(given, list) or not all(isinstance(one, list) and one for one in given):
        raise InvalidArgumentError(
            "ipam has no ranges", hint='"ranges": [[{"subnet": "10.1.0.0/16"}]]'
        )
    return [[parse_range(one) for one in several] for several in given]


def _wanted(request: Request) -> list[str]:
    told = request.capabilities.get("ips") or []
    if not isinstance(told, list) or not all(isinstance(one, str) for one in told):
        raise InvalidArgumentError("runtimeConfig.ips is not a list of addresses")
    return told or [one for one in request.arguments.get("IP", "").split(",") if one]


def _leases(request: Request) -> Leases:
    folder = _settings(request).get("dataDir") or FOLDER
    if not isinstance(folder, str) or not folder.startswith("/"):
        raise InvalidArgumentError(f"ipam.dataDir {folder!r} is no absolute path")
    return Leases(request.network, folder)


def _owner(request: Request) -> str:
    return f"{request.container}@{request.interface}"


def _delegate(request: Request, plugin: str, command: str = "") -> bytes:
    """Run the other plugin with our own input."""
    plugins = Plugins(request.folders, _TIMEOUT_S)
    given, environment = request.configuration, request.environment
    return plugins.call(plugin, command or request.command, environment, given)
