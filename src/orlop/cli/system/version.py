"""orlop version."""

from __future__ import annotations

import sys

from orlop import __version__
from orlop.cli.options import Command, text
from orlop.cli.screen import say
from orlop.cli.system.info import show_one
from orlop.client.calls import API_VERSION
from orlop.errors import OrlopError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class VersionCommand(Command):
    description = "Shows the versions of this command and of the engine."

    form = text("-f", "--format", metavar="TEMPLATE", help="such as {{.Server.Version}}, or json")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print them; without an engine this command's alone, and 1."""
        python = ".".join(str(part) for part in sys.version_info[:3])
        own: dict[str, Any] = {
            "Version": __version__,
            "ApiVersion": API_VERSION,
            "PythonVersion": python,
            "Os": "linux",
            "Arch": _architecture(),
        }
        server, problem = None, None
        try:
            server = client.system.version()
        except OrlopError as error:
            problem = error
        if self.form:
            show_one({"Client": own, "Server": server}, out, form=self.form)
        else:
            _show("Client", own, out)
            if server is not None:
                print(file=out)
                _show("Server", server, out)
        if problem is not None:
            say(err, f"orlop: {problem}")
        return 1 if problem else 0


def _architecture() -> str:
    import os

    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _show(title: str, found: dict[str, Any], out: TextIO) -> None:
    print(f"{title}:", file=out)
    lines = {
        "Version": found.get("Version"),
        "API version": found.get("ApiVersion"),
        "Python version": found.get("PythonVersion"),
        "OS/Arch": f"{found.get('Os')}/{found.get('Arch')}",
        "Kernel": found.get("KernelVersion"),
    }
    for name, value in lines.items():
        if value:
            print(f" {name + ':':18}{value}", file=out)
