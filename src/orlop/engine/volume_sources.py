"""Where the files of a volume are: in a folder of the engine's, or where its options say.

The options are those of Docker's driver `local`, named after mount(8)'s: `type`, `o` and
`device`. The engine mounts no volume on the host. Each container mounts it for itself.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.kernel.paths import open_beneath
from orlop.model.container import MountPoint
from orlop.runtime.filesystems import BENEATH

_NEEDED = ("device", "type")
_BINDS = ("bind", "rbind")
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY


def check_options(options: Mapping[str, str]) -> None:
    """Raise InvalidArgumentError, in Docker's words, or UnsupportedError if *options* cannot be."""
    for name in sorted(options.keys() - {*_NEEDED, "o", "size"}):
        raise InvalidArgumentError(f'invalid option: "{name[:100]}"')
    if "size" in options:
        raise UnsupportedError("quota size requested but no quota support")
    for name in _NEEDED if options else ():
        if not options.get(name):
            raise InvalidArgumentError(f'missing required option: "{name}"')
    kind = options.get("type", "")
    if kind in _REMOTE:
        raise UnsupportedError(
            f"volumes of type {kind} are not supported",
            hint="mount it on the host, and make a volume with type=none, o=bind of that folder",
        )
    if kind == "none" and not is_bind(options):
        raise InvalidArgumentError("a volume of type none needs the option o=bind")


def is_bind(options: Mapping[str, str]) -> bool:
    """Return whether the volume is another folder of the host."""
    return any(word in _BINDS for word in _words(options))


def mount_words(mount: MountPoint) -> tuple[str, str, list[str]]:
    """Return type, source and options of a volume's mount, for a volume that has options."""
    options = mount.driver_options
    words = _words(options)
    if not is_bind(options):
        return options["type"], options["device"], words
    if not any(word.endswith(("private", "slave", "shared")) for word in words):
        words.append("rprivate")
    return "bind", _beneath(options["device"], mount.subpath), words


def folder_of(mount: MountPoint, volumes: Path) -> str:
    """Return the host's path of what *mount* shows of its volume; *volumes* has all folders."""
    return _beneath(_base(mount, volumes), mount.subpath)


def open_folder(mount: MountPoint, volumes: Path) -> int:
    """Open what *mount* shows of its volume or host folder; the caller closes it.

    Raises:
        FileNotFoundError: it has no such folder.
        OSError: EXDEV if links lead out of the volume.
        UnsupportedError: only a container that runs has it.
    """
    if mount.type == "bind":
        return os.open(mount.source, _FOLDER | os.O_CLOEXEC)
    base = os.open(_base(mount, volumes), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_beneath(base, mount.subpath or ".", _FOLDER)
    finally:
        os.close(base)


def has_folder(mount: MountPoint) -> bool:
    """Return whether the volume's files can be reached without a container that runs."""
    return not mount.driver_options or is_bind(mount.driver_options)


def _base(mount: MountPoint, volumes: Path) -> str:
    if not mount.driver_options:
        return str(volumes / mount.source / "_data")
    if not is_bind(mount.driver_options):
        raise UnsupportedError(f"volume {mount.source} is mounted only while its container runs")
    return mount.driver_options["device"]


def _beneath(base: str, subpath: str) -> str:
    return f"{base}{BENEATH}{subpath}" if subpath else base


def _words(options: Mapping[str, str]) -> list[str]:
    words: Iterable[str] = options.get("o", "").split(",")
    return [word for word in words if word]
