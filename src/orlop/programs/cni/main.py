"""The program behind `scripts/orlop-cni`: reads the request, prints JSON; 1 if it is an error."""

from __future__ import annotations

import gc
import os
import sys

from orlop.model import jsontext
from orlop.network.cni import failure, result, versions
from orlop.network.cni.plugin import request as requests
from orlop.network.cni.plugin.ipam import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orlop.network.cni.plugin.request import Request

_CHUNK = 1 << 16
_MOST_INPUT = 2 << 20


def program() -> int:
    """Handle the request in this process's environment and stdin; the output is written."""
    gc.disable()  # imports make no garbage, and looking for some takes 1 ms
    if not os.environ.get("CNI_COMMAND"):
        about = f"{NAME}: a CNI plugin, run by container engines; versions of CNI: "
        os.write(2, f"{about}{', '.join(versions.SUPPORTED)}\n".encode())
    status, answer = answered(dict(os.environ), _stdin())
    if answer is not None:
        text = jsontext.dumps(answer, indent=4) + "\n"
        os.write(1, text.encode(errors="surrogateescape"))
    return status


def answered(environment: dict[str, str], text: bytes) -> tuple[int, dict[str, Any] | None]:
    """Return the exit status, and the output."""
    version = versions.LATEST
    try:
        version = _said_version(text) or version
        request = requests.read(environment, text)
        return 0, _do(request)
    except Exception as error:
        if "ORLOP_DEBUG" in environment:
            sys.excepthook(type(error), error, error.__traceback__)
        return 1, failure.document(error, version)


def _do(request: Request) -> dict[str, Any] | None:
    if request.command == "VERSION":
        version = request.configuration.get("cniVersion") or versions.LATEST
        return {"cniVersion": version, "supportedVersions": list(versions.SUPPORTED)}
    from orlop.network.cni.plugin import ipam

    room: Any = ipam
    if request.configuration.get("type") == NAME or ipam.kind(request) != NAME:
        from orlop.network.cni.plugin import interface

        room = interface
    verbs = {"ADD": "add", "DEL": "delete", "CHECK": "check", "GC": "collect", "STATUS": "status"}
    told = getattr(room, verbs[request.command])(request)
    return result.render(told, request.version) if request.command == "ADD" else None


def _said_version(text: bytes) -> str:
    """Return the version for reporting an error, "" if the input has none."""
    try:
        document = jsontext.loads(text)
    except Exception:
        return ""
    version = document.get("cniVersion") if isinstance(document, dict) else None
    return version if isinstance(version, str) else ""


def _stdin() -> bytes:
    text = b""
    while len(text) <= _MOST_INPUT and (part := os.read(0, _CHUNK)):
        text += part
    return text
