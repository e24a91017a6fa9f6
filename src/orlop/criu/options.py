"""The common options and folders of checkpoint and restore."""

from __future__ import annotations

import os
import stat

from orlop.criu.conversation import Log
from orlop.errors import InvalidArgumentError, PermissionDeniedError
from orlop.kernel.namespaces import Namespace
from orlop.model.light import Any, Mapping, NamedTuple, Sequence
from orlop.model.light_context import ExitStack

#: The standard streams at the checkpoint: a list of three texts. runc's name.
DESCRIPTORS = "descriptors.json"

#: Prefixes of CRIU's names for a file and a terminal: file[mount:inode], tty[rdev:dev].
EXTERNAL_FILE = "file["
EXTERNAL_TERMINAL = "tty["

#: The annotation that names a file with more options for CRIU; crun's and runc's name.
_ANNOTATION = "org.criu.config"
_CONFIG_FOLDER = "/etc/criu"
_CONFIG_FILES = ("orlop-runtime.conf", "runc.conf")

#: Words of --manage-cgroups-mode. images/rpc.proto, criu_cg_mode.
_CGROUP_MODES: Mapping[str, int] = {"": 6, "soft": 3, "full": 4, "strict": 5, "ignore": 0}
_DEEPEST_CHAIN = 64

#: CRIU's names of namespaces that are not in the images if they are joined by path.
EXTERNAL_NAMESPACES: Mapping[Namespace, str] = {Namespace.NET: "net", Namespace.PID: "pid"}


class Options(NamedTuple):
    """Options with the same meaning for both."""

    image_path: str = "checkpoint"
    work_path: str = ""
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    lazy_pages: bool = False
    auto_dedup: bool = False
    manage_cgroups_mode: str = ""
    empty_ns: Sequence[str] = ()


class Folders(NamedTuple):
    """The open folder of images, and CRIU's log in the work folder."""

    images: int
    work: int | None
    log: Log


def require_root() -> None:
    """Refuse an ordinary user, for whom CRIU cannot handle whole containers."""
    if os.geteuid():
        raise PermissionDeniedError("checkpoint and restore need root")


def requested(options: Options, annotations: Mapping[str, str]) -> dict[str, Any]:
    """Return CRIU's request for *options*."""
    if options.manage_cgroups_mode not in _CGROUP_MODES:
        known = ", ".join(word for word in _CGROUP_MODES if word)
        raise InvalidArgumentError(
            f"invalid manage-cgroups-mode {options.manage_cgroups_mode!r}", hint=f"one of: {known}"
        )
    for kind in options.empty_ns:
        if kind != "network":
            raise InvalidArgumentError(f'namespace "{kind}" is not supported')
    return {
        "tcp_established": options.tcp_established,
        "ext_unix_sk": options.ext_unix_sk,
        "shell_job": options.shell_job,
        "file_locks": options.file_locks,
        "lazy_pages": options.lazy_pages,
        "auto_dedup": options.auto_dedup,
        "manage_cgroups": True,
        "manage_cgroups_mode": _CGROUP_MODES[options.manage_cgroups_mode],
        "orphan_pts_master": True,
        # The interfaces belong to hooks, or to an engine. Only "lo" is ours.
        "empty_ns": int(Namespace.NET),
        "config_file": _config_file(annotations),
    }


def open_folders(options: Options, log_name: str, ours: ExitStack, *, make: bool) -> Folders:
    """Open the folder of images (created if *make*) and the work folder (always created)."""
    if make:
        os.makedirs(options.image_path, mode=0o700, exist_ok=True)
    images = _open(options.image_path, "image", ours)
    if not options.work_path:
        return Folders(images, None, Log(images, options.image_path, log_name))
    os.makedirs(options.work_path, mode=0o700, exist_ok=True)
    work = _open(options.work_path, "work", ours)
    return Folders(images, work, Log(work, options.work_path, log_name))


def check_images(images: int) -> None:
    """Refuse images that are no plain files: a link could bring a file of the host's inside.

    The one link that CRIU itself makes is "parent", to the images that came before.
    """
    for _ in range(_DEEPEST_CHAIN):
        with os.scandir(images) as entries:
            for entry in entries:
                if entry.name != "parent" and not _is_plain(entry):
                    raise InvalidArgumentError(f"the checkpoint's {entry.name} is no plain file")
        try:
            images = os.open("parent", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=images)
        except FileNotFoundError:
            return
    raise InvalidArgumentError("the checkpoint's parents do not end")


def external_namespace(kind: Namespace) -> str:
    """Return what images call a namespace that was joined by path; runc's words."""
    return f"extRoot{EXTERNAL_NAMESPACES[kind].title()}NS"


def _is_plain(entry: os.DirEntry[str]) -> bool:
    mode = entry.stat(follow_symlinks=False).st_mode
    return stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not entry.name.endswith(".img"))


def _open(path: str, what: str, ours: ExitStack) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidArgumentError(f"cannot open the {what} folder {path!r}: {reason}") from None
    ours.callback(os.close, fd)
    return fd


def _config_file(annotations: Mapping[str, str]) -> str | None:
    """Return the file with more options for CRIU, or None.

    The file can name programs to run as root, and an annotation may come from anybody, so
    it only selects one of the administrator's files.
    """
    wanted = annotations.get(_ANNOTATION)
    if wanted is None:
        files = (f"{_CONFIG_FOLDER}/{name}" for name in _CONFIG_FILES)
        return next((file for file in files if os.path.exists(file)), None)
    if wanted and os.path.dirname(os.path.normpath(wanted)) != _CONFIG_FOLDER:
        raise InvalidArgumentError(
            f"annotation {_ANNOTATION} names a file outside {_CONFIG_FOLDER}"
        )
    return wanted or None
