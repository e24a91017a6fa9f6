"""Which commands there are, and where. A module is imported only when its command is run."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Protocol, TextIO

    from orlop.cli.options import Arguments
    from orlop.client.client import Client

    class Command(Protocol):
        """What each command's module has."""

        Args: type[Arguments]

        def run(self, args: Arguments, client: Client, out: TextIO, err: TextIO) -> int: ...


_C = "orlop.cli.container."
_I = "orlop.cli.image."
_V = "orlop.cli.volume."
_N = "orlop.cli.network."
_S = "orlop.cli.system."

#: Heading -> command -> (module, what it does in a line).
CONTAINER: dict[str, tuple[str, str]] = {
    "run": (_C + "run", "Create and run a new container from an image"),
    "exec": (_C + "exec", "Run a command in a running container"),
    "ps": (_C + "ps", "List containers"),
    "create": (_C + "create", "Create a new container"),
    "start": (_C + "start", "Start containers"),
    "attach": (_C + "attach", "Attach this terminal's input, output and errors to a container"),
    "stop": (_C + "stop", "Stop running containers"),
    "restart": (_C + "restart", "Restart containers"),
    "kill": (_C + "kill", "Send a signal to running containers"),
    "pause": (_C + "pause", "Freeze all processes of containers"),
    "unpause": (_C + "unpause", "Let frozen containers go on"),
    "wait": (_C + "wait", "Wait until containers stop, then print their exit codes"),
    "rm": (_C + "rm", "Remove containers"),
    "rename": (_C + "rename", "Rename a container"),
    "logs": (_C + "logs", "Show what a container has written"),
    "top": (_C + "top", "Show the processes of a container"),
    "stats": (_C + "stats", "Show what containers use, live"),
    "cp": (_C + "cp", "Copy files between a container and this machine"),
    "diff": (_C + "diff", "Show what a container has changed in its file system"),
    "export": (_C + "export", "Write a container's file system as a tar archive"),
    "commit": (_C + "commit", "Make an image of a container's changes"),
    "port": (_C + "port", "Show the published ports of a container"),
    "update": (_C + "update", "Change limits of containers"),
}
IMAGE: dict[str, tuple[str, str]] = {
    "images": (_I + "images", "List images"),
    "pull": (_I + "pull", "Fetch an image from a registry"),
    "push": (_I + "push", "Send an image to a registry"),
    "rmi": (_I + "rmi", "Remove images"),
    "tag": (_I + "tag", "Give an image another name"),
    "history": (_I + "history", "Show how an image was made"),
    "save": (_I + "save", "Write images to an archive"),
    "load": (_I + "load", "Read images from an archive"),
    "import": (_I + "import_", "Make an image of a file system in a tar archive"),
    "login": (_I + "login", "Log in to a registry"),
    "logout": (_I + "logout", "Log out of a registry"),
}
ENGINE: dict[str, tuple[str, str]] = {
    "inspect": (_S + "inspect", "Show all that is known of containers, images, volumes, networks"),
    "events": (_S + "events", "Show what happens, as it happens"),
    "info": (_S + "info", "Show what the engine is and has"),
    "version": (_S + "version", "Show the versions of command and engine"),
    "bench": ("orlop.cli.bench", "Measure what starts cost here, beside other engines"),
    "engine": (_S + "engine", "Run the engine in the foreground, for service managers"),
    "completion": (_S + "completion", "Write a completion script for a shell"),
}

#: A group's name -> its line of help, and its commands; many are the plain ones by another name.
GROUPS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "container": (
        "Manage containers",
        {
            **CONTAINER,
            "ls": CONTAINER["ps"],
            "list": CONTAINER["ps"],
            "inspect": (_C + "inspect", "Show all that is known of containers"),
            "prune": (_C + "prune", "Remove all stopped containers"),
        },
    ),
    "image": (
        "Manage images",
        {
            "ls": IMAGE["images"],
            "list": IMAGE["images"],
            "rm": IMAGE["rmi"],
            "inspect": (_I + "inspect", "Show all that is known of images"),
            "prune": (_I + "prune", "Remove unused images"),
            **{
                name: IMAGE[name]
                for name in ("pull", "push", "tag", "history", "save", "load", "import")
            },
        },
    ),
    "volume": (
        "Manage volumes",
        {
            "create": (_V + "create", "Create a volume"),
            "ls": (_V + "ls", "List volumes"),
            "list": (_V + "ls", "List volumes"),
            "inspect": (_V + "inspect", "Show all that is known of volumes"),
            "rm": (_V + "rm", "Remove volumes"),
            "prune": (_V + "prune", "Remove unused volumes"),
        },
    ),
    "network": (
        "Manage networks",
        {
            "create": (_N + "create", "Create a network"),
            "ls": (_N + "ls", "List networks"),
            "list": (_N + "ls", "List networks"),
            "inspect": (_N + "inspect", "Show all that is known of networks"),
            "connect": (_N + "connect", "Put a container on a network"),
            "disconnect": (_N + "disconnect", "Take a container off a network"),
            "rm": (_N + "rm", "Remove networks"),
            "remove": (_N + "rm", "Remove networks"),
            "prune": (_N + "prune", "Remove unused networks"),
            "token": (_N + "token", "Print what another host needs to join a network"),
            "join": (_N + "join", "Have a network of other hosts here too"),
            "members": (_N + "members", "List the hosts of a network"),
        },
    ),
    "system": (
        "Manage the engine",
        {
            "df": (_S + "df", "Show how much disk is used"),
            "prune": (_S + "prune", "Remove what is not used"),
            "info": ENGINE["info"],
            "events": ENGINE["events"],
        },
    ),
}
HEADINGS: dict[str, dict[str, tuple[str, str]]] = {
    "Containers": CONTAINER,
    "Images": IMAGE,
    "Engine": ENGINE,
}


def find(words: list[str]) -> tuple[str, str, list[str]]:
    """Return (name, module, rest of the words); the module is "" for a group alone.

    KeyError with the word that is no command.
    """
    first = words[0]
    for table in HEADINGS.values():
        if first in table:
            return first, table[first][0], words[1:]
    _, members = GROUPS[first]
    if len(words) == 1 or words[1] in ("--help", "-h"):
        return first, "", words[1:]
    if words[1] not in members:
        raise KeyError(f"{first} {words[1]}")
    return f"{first} {words[1]}", members[words[1]][0], words[2:]


def load(module: str) -> ModuleType:
    """Import a command's module."""
    return __import__(module, fromlist=("run",))


def names() -> list[str]:
    """Return all that can be typed as a command: plain ones, groups, and "group command"."""
    plain = [name for table in HEADINGS.values() for name in table]
    grouped = [f"{group} {name}" for group, (_, table) in GROUPS.items() for name in table]
    return [*plain, *GROUPS, *grouped]


def summary(name: str) -> str:
    """Return what a command does, in a line."""
    group, _, member = name.partition(" ")
    if member:
        return GROUPS[group][1][member][1]
    return next(table[name][1] for table in HEADINGS.values() if name in table)
