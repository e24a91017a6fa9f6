"""The process of config.json: command, environment, user, limits, capabilities."""

import posixpath
from collections.abc import Iterable

from orlop.engine.spec.given import Given
from orlop.engine.spec.security import Security
from orlop.errors import InvalidArgumentError
from orlop.model.container import ContainerOptions, ExecOptions, Ulimit
from orlop.model.image import Process as ImageProcess
from orlop.model.oci import Capabilities, Config, Process, Rlimit, User
from orlop.runtime import capability_sets

INIT_TARGET = "/sbin/docker-init"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INFINITY = (1 << 64) - 1
_LIMITS = frozenset(
    [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)


def command(options: ContainerOptions, image: ImageProcess) -> tuple[str, ...]:
    """Return argv: entrypoint and command, each the option's or else the image's.

    A given entrypoint takes the image's command away, even an empty one (() or ("",)).

    Raises:
        InvalidArgumentError: nothing is left to run.
    """
    if options.entrypoint is None:
        entrypoint, arguments = image.entrypoint, options.command or image.cmd
    else:
        entrypoint = () if options.entrypoint == ("",) else options.entrypoint
        arguments = options.command or ()
    argv = (*entrypoint, *arguments)
    if not argv:
        raise InvalidArgumentError("no command specified", hint="the image has no default")
    return argv


def process(given: Given, security: Security) -> Process:
    """Return the container's first process."""
    options = given.options
    argv = command(options, given.image)
    user = user_of(
        options.user or given.image.user, options.group_add, policy=options.groups_policy
    )
    result: Process = {
        "terminal": options.terminal,
        "args": [INIT_TARGET, "--", *argv] if options.init else list(argv),
        "env": _environment(given),
        "cwd": working_directory(options.working_dir or given.image.working_dir),
        "user": user,
        "capabilities": capabilities(security.capabilities),
        "rlimits": [rlimit(limit) for limit in options.resources.ulimits],
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": options.oom_score_adj,
    }
    if options.terminal and options.console_size is not None:
        height, width = options.console_size
        result["consoleSize"] = {"height": height, "width": width}
    if security.apparmor:
        result["apparmorProfile"] = security.apparmor
    return result


def exec_process(config: Config, options: ExecOptions) -> Process:
    """Return a process to run in a container whose config.json is *config*.

    It has the container's environment, folder, user, capabilities and limits,
    except where *options* say otherwise. A terminal's TERM is added.
    """
    if not options.command:
        raise InvalidArgumentError("no command specified")
    base = config.get("process", {})
    env = merged(base.get("env", []), ["TERM=xterm"] if options.terminal else [])
    result: Process = {
        "terminal": options.terminal,
        "args": list(options.command),
        "env": merged(env, options.environment),
        "cwd": working_directory(options.working_dir or base.get("cwd", "/")),
        "user": _exec_user(options.user, base.get("user", {})),
        "capabilities": base.get("capabilities", {}),
        "rlimits": base.get("rlimits", []),
        "noNewPrivileges": base.get("noNewPrivileges", False),
        "oomScoreAdj": base.get("oomScoreAdj", 0),
    }
    if options.privileged:
        result["capabilities"] = capabilities(capability_sets.everything())
    elif "apparmorProfile" in base:
        result["apparmorProfile"] = base["apparmorProfile"]
    return result


def capabilities(names: Iterable[str]) -> Capabilities:
    """Return the sets: none inheritable and none ambient, so that only root keeps any at exec."""
    held = list(names)
    return {"bounding": held, "effective": held, "permitted": held}


def _exec_user(text: str, base: User) -> User:
    """Return the container's user, or another one with the groups added to the container."""
    if not text:
        return base
    groups, policy = base.get("additionalGroups", ()), base.get("groupsPolicy", "")
    return user_of(text, groups, policy=policy)


def user_of(text: str, groups: Iterable[str], *, policy: str = "") -> User:
    """Return the user as written; the runtime looks names up in the container's own files."""
    if len(text) > 256 or any(character < " " for character in text):
        raise InvalidArgumentError(f"invalid user {text[:100]!r}")
    user: User = {"username": text or "0"}  # root, too, has the groups of /etc/group
    if extra := list(groups):
        user["additionalGroups"] = extra
    if policy:
        user["groupsPolicy"] = policy
    return user


def working_directory(path: str) -> str:
    """Return *path* absolute and clean; an image's relative one is below "/"."""
    if "\0" in path:
        raise InvalidArgumentError(f"invalid working directory {path!r}")
    return posixpath.normpath("/" + path.lstrip("/"))


def _environment(given: Given) -> list[str]:
    """Docker's order: its own, links', the image's, the user's; of one name the last counts."""
    own = [_PATH, f"HOSTNAME={given.hostname}"]
    if given.options.terminal:
        own.append("TERM=xterm")
    return merged(merged([*own, *given.linked], given.image.env), given.options.environment)


def merged(base: Iterable[str], more: Iterable[str]) -> list[str]:
    """Return *base* with the variables of *more*; one without "=" is taken away."""
    result = {entry.partition("=")[0]: entry for entry in base}
    for entry in more:
        name, equals, _ = entry.partition("=")
        if not name or "\0" in entry:
            raise InvalidArgumentError(f"invalid environment variable {entry[:100]!r}")
        if equals:
            result[name] = entry
        else:
            result.pop(name, None)
    return list(result.values())


def rlimit(limit: Ulimit) -> Rlimit:
    """Return it in the specification's words. InvalidArgumentError if there is no such limit."""
    if limit.name not in _LIMITS:
        raise InvalidArgumentError(f"unknown ulimit {limit.name!r}")
    if -1 not in (limit.soft, limit.hard) and limit.soft > limit.hard:
        raise InvalidArgumentError(
            f"ulimit {limit.name}: soft limit {limit.soft} is above hard limit {limit.hard}"
        )
    soft, hard = (_INFINITY if value < 0 else value for value in (limit.soft, limit.hard))
    return {"type": f"RLIMIT_{limit.name.upper()}", "soft": soft, "hard": hard}
