"""orlop info."""

from __future__ import annotations

from orlop.cli.options import Command, text
from orlop.cli.output.listing import show_objects, write_table
from orlop.cli.output.units import binary_size
from orlop.cli.screen import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client

#: Line -> field of the answer.
_LINES = {
    "Server Version": "ServerVersion",
    "Storage Driver": "Driver",
    "Logging Driver": "LoggingDriver",
    "Cgroup Driver": "CgroupDriver",
    "Cgroup Version": "CgroupVersion",
    "Kernel Version": "KernelVersion",
    "Operating System": "OperatingSystem",
    "OSType": "OSType",
    "Architecture": "Architecture",
    "CPUs": "NCPU",
    "Name": "Name",
    "ID": "ID",
    "Root Dir": "DockerRootDir",
}


class InfoCommand(Command):
    description = "Shows what the engine is, what it has, and what it runs on."

    form = text("-f", "--format", metavar="TEMPLATE", help="such as {{.Driver}}, or json")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print it."""
        found = client.system.info()
        if self.form:
            show_one(found, out, form=self.form)
            return 0
        print(f"Containers: {found.get('Containers', 0)}", file=out)
        for state in ("Running", "Paused", "Stopped"):
            print(f" {state}: {found.get(f'Containers{state}', 0)}", file=out)
        print(f"Images: {found.get('Images', 0)}", file=out)
        for line, field in _LINES.items():
            if found.get(field) not in (None, ""):
                print(f"{line}: {found[field]}", file=out)
        print(f"Total Memory: {binary_size(found.get('MemTotal') or 0)}", file=out)
        if found.get("SecurityOptions"):
            print("Security Options:", *found["SecurityOptions"], sep="\n  ", file=out)
        if rows := [[*one.values()] for one in found.get("Protections") or ()]:
            write_table([["PROTECTION", "STATE", "WHAT"], *rows], out)
        for warning in found.get("Warnings") or ():
            say(err, warning)
        return 0


def show_one(found: dict[str, Any], out: TextIO, *, form: str) -> None:
    """Print one object as JSON or as a template says."""
    show_objects([found], out, form="{{json .}}" if form == "json" else form)
