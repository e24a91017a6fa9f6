"""Which commands there are, and where. A module is imported only when its command is run."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.cli.options import Command


_C = "orlop.cli.container."
_I = "orlop.cli.image."
_V = "orlop.cli.volume"
_N = "orlop.cli.network."
_S = "orlop.cli.system."

#: Heading -> command -> ("module:class", what it does in a line).
CONTAINER: dict[str, tuple[str, str]] = {
    "run": (_C + "run:RunCommand", "Create and run a new container from an image"),
    "exec": (_C + "exec:ExecCommand", "Run a command in a running container"),
    "ps": (_C + "ps:PsCommand", "List containers"),
    "create": (_C + "run:CreateCommand", "Create a new container"),
    "start": (_C + "start:StartCommand", "Start containers"),
    "attach": (
        _C + "attach:AttachCommand",
        "Attach this terminal's input, output and errors to a container",
    ),
    "stop": (_C + "life:StopCommand", "Stop running containers"),
    "restart": (_C + "life:RestartCommand", "Restart containers"),
    "kill": (_C + "life:KillCommand", "Send a signal to running containers"),
    "pause": (_C + "life:PauseCommand", "Pause all processes of containers"),
    "unpause": (_C + "life:UnpauseCommand", "Resume paused containers"),
    "wait": (_C + "life:WaitCommand", "Wait until containers stop, then print their exit codes"),
    "rm": (_C + "life:RmCommand", "Remove containers"),
    "rename": (_C + "life:RenameCommand", "Rename a container"),
    "logs": (_C + "logs:LogsCommand", "Show the output of a container"),
    "top": (_C + "details:TopCommand", "Show the processes of a container"),
    "stats": (_C + "stats:StatsCommand", "Show the resource usage of containers, live"),
    "cp": (_C + "cp:CpCommand", "Copy files between a container and this machine"),
    "diff": (_C + "contents:DiffCommand", "Show changes in a container's file system"),
    "export": (_C + "contents:ExportCommand", "Write a container's file system as a tar archive"),
    "commit": (_C + "contents:CommitCommand", "Make an image from a container's changes"),
    "port": (_C + "details:PortCommand", "Show the published ports of a container"),
    "update": (_C + "update:UpdateCommand", "Change limits of containers"),
}
IMAGE: dict[str, tuple[str, str]] = {
    "build": (_I + "build:BuildCommand", "Build an image from a Dockerfile"),
    "images": (_I + "images:ImagesCommand", "List images"),
    "pull": (_I + "transfer:PullCommand", "Fetch an image from a registry"),
    "push": (_I + "transfer:PushCommand", "Send an image to a registry"),
    "rmi": (_I + "manage:RmiCommand", "Remove images"),
    "tag": (_I + "manage:TagCommand", "Give an image another name"),
    "history": (_I + "history:HistoryCommand", "Show how an image was made"),
    "save": (_I + "archives:SaveCommand", "Write images to an archive"),
    "load": (_I + "archives:LoadCommand", "Read images from an archive"),
    "import": (_I + "archives:ImportCommand", "Make an image from a tar archive of a file system"),
    "login": (_I + "login:LoginCommand", "Log in to a registry"),
    "logout": (_I + "login:LogoutCommand", "Log out of a registry"),
}
ENGINE: dict[str, tuple[str, str]] = {
    "inspect": (
        _S + "inspect:InspectCommand",
        "Show all details of containers, images, volumes, networks",
    ),
    "events": (_S + "events:EventsCommand", "Show events as they happen"),
    "info": (_S + "info:InfoCommand", "Show the engine's settings and what protects containers"),
    "version": (_S + "version:VersionCommand", "Show the versions of command and engine"),
    "bench": (
        "orlop.cli.bench:BenchCommand",
        "Measure the cost of starts, beside other engines",
    ),
    "engine": (
        _S + "engine:EngineCommand",
        "Run the engine in the foreground, for service managers",
    ),
    "completion": (_S + "completion:CompletionCommand", "Write a completion script for a shell"),
}

#: A group's name -> its line of help, and its commands; many are the plain ones by another name.
GROUPS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "container": (
        "Manage containers",
        {
            **CONTAINER,
            "ls": CONTAINER["ps"],
            "list": CONTAINER["ps"],
            "inspect": (
                _C + "details:ContainerInspectCommand",
                "Show all details of containers",
            ),
            "prune": (_C + "life:ContainerPruneCommand", "Remove all stopped containers"),
        },
    ),
    "image": (
        "Manage images",
        {
            "ls": IMAGE["images"],
            "list": IMAGE["images"],
            "rm": IMAGE["rmi"],
            "inspect": (_I + "manage:ImageInspectCommand", "Show all details of images"),
            "prune": (_I + "manage:ImagePruneCommand", "Remove unused images"),
            **{
                name: IMAGE[name]
                for name in ("build", "pull", "push", "tag", "history", "save", "load", "import")
            },
        },
    ),
    "volume": (
        "Manage volumes",
        {
            "create": (_V + ":VolumeCreateCommand", "Create a volume"),
            "ls": (_V + ":VolumeLsCommand", "List volumes"),
            "list": (_V + ":VolumeLsCommand", "List volumes"),
            "inspect": (_V + ":VolumeInspectCommand", "Show all details of volumes"),
            "rm": (_V + ":VolumeRmCommand", "Remove volumes"),
            "prune": (_V + ":VolumePruneCommand", "Remove unused volumes"),
        },
    ),
    "network": (
        "Manage networks",
        {
            "create": (_N + "create:NetworkCreateCommand", "Create a network"),
            "ls": (_N + "ls:NetworkLsCommand", "List networks"),
            "list": (_N + "ls:NetworkLsCommand", "List networks"),
            "inspect": (_N + "manage:NetworkInspectCommand", "Show all details of networks"),
            "connect": (_N + "connect:NetworkConnectCommand", "Connect a container to a network"),
            "disconnect": (
                _N + "connect:NetworkDisconnectCommand",
                "Disconnect a container from a network",
            ),
            "rm": (_N + "manage:NetworkRmCommand", "Remove networks"),
            "remove": (_N + "manage:NetworkRmCommand", "Remove networks"),
            "prune": (_N + "manage:NetworkPruneCommand", "Remove unused networks"),
            "token": (
                _N + "hosts:NetworkTokenCommand",
                "Print the token that lets another host join a network",
            ),
            "join": (_N + "hosts:NetworkJoinCommand", "Join a network shared with other hosts"),
            "members": (_N + "hosts:NetworkMembersCommand", "List the hosts of a network"),
        },
    ),
    "builder": (
        "Manage the cache of builds",
        {
            "build": IMAGE["build"],
            "du": (_I + "builder:BuilderDuCommand", "Show what the cache of builds keeps"),
            "prune": (_I + "builder:BuilderPruneCommand", "Remove what the cache need not keep"),
        },
    ),
    "vm": (
        "Prepare virtual machines",
        {"setup": ("orlop.cli.vm:VmSetupCommand", "Fetch a kernel and build a system for guests")},
    ),
    "system": (
        "Manage the engine",
        {
            "df": (_S + "df:SystemDfCommand", "Show how much disk is used"),
            "prune": (_S + "prune:SystemPruneCommand", "Remove what is not used"),
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
    """Return (name, place, rest of the words); the place is "" for a group alone.

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


def load(place: str) -> type[Command]:
    """Import a command, of *place* "module:class"."""
    module, _, name = place.partition(":")
    command: type[Command] = getattr(__import__(module, fromlist=(name,)), name)
    return command


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
