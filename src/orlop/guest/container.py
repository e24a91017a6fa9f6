"""The container of a virtual machine: its root from two disks, its processes by `runtime/`.

/dev/vda   the image: EROFS, read only, shared with all machines of the image
/dev/vdb   what the container writes: ext4
"""

import os
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from orlop.errors import InvalidArgumentError, WrongStateError
from orlop.guest import network
from orlop.kernel.mount import MountFlag, Unmount, mount, umount
from orlop.model.guestwire import FILES
from orlop.model.mount import Mount
from orlop.runtime import joining, seccomp
from orlop.runtime.bundle import Bundle, Starting, Stdio, Target
from orlop.runtime.cgroups import v2
from orlop.runtime.execute import execute
from orlop.runtime.start import start

#: What a start would import: the template has it in memory.
PREPARED = (joining, v2)

_IMAGE, _WRITES = "/image", "/writes"
_IMAGE_DISK, _WRITES_DISK = "/dev/vda", "/dev/vdb"
_ROOT = (
    Mount(
        "overlay",
        "overlay",
        "/",
        (f"lowerdir+={_IMAGE}", f"upperdir={_WRITES}/fs", f"workdir={_WRITES}/work"),
    ),
)


class Container:
    """The one container of this machine, from its start on."""

    def __init__(self, open_names: Callable[[], None]) -> None:
        """*open_names* is called once the network is there."""
        self._open_names = open_names
        self._bundle: Bundle | None = None
        self._first: Starting | None = None
        self._is_rehearsal = False

    def start(self, what: Mapping[str, Any], stdio: Stdio | None) -> Starting:
        """Start what the host describes: id, config.json, the filter's program, files.

        Raises OrlopError or OSError; WrongStateError for a second container.
        """
        if self._bundle is not None:
            raise WrongStateError("this virtual machine has its container already")
        config = what["config"]
        if policy := config.get("linux", {}).get("seccomp"):
            seccomp.remember(policy, bytes.fromhex(what["filter"]))
        is_rehearsal = what.get("rehearsal", False)
        if is_rehearsal:
            _mount_own_system()
        else:
            _mount_disks()
        if card := what["card"]:
            network.set_up(card)
            self._open_names()
        for key, value in what["sysctls"].items():
            network.write_sysctl(key, value)
        _write_files(what["files"])
        bundle = Bundle(what["id"], "/", config, _ROOT)
        self._first = start(bundle, stdio)
        self._bundle, self._is_rehearsal = bundle, is_rehearsal
        return self._first

    def ended(self, pid: int) -> None:
        """Take note of a process that has ended; after the first one all writes are on the disk."""
        if self._first is None or pid != self._first.pid:
            return
        if self._is_rehearsal:
            self._forget()
        else:
            os.sync()

    def execute(self, what: Mapping[str, Any], stdio: Stdio | None) -> Starting:
        """Start another process in the container. Raises OrlopError or OSError."""
        if self._bundle is None or self._first is None:
            raise WrongStateError("this virtual machine has no container yet")
        first = self._first
        target = Target(self._bundle.id, first.pid, first.pidfd, self._bundle.config, first.cgroup)
        return execute(target, what["process"], stdio)

    def _forget(self) -> None:
        """Let another container take the place of the one that was a rehearsal."""
        if self._first is not None and self._first.cgroup is not None:
            self._first.cgroup.remove()
            os.close(self._first.pidfd)
        self._bundle = self._first = None
        for place in (_IMAGE, _WRITES):
            umount(place, Unmount.DETACH)


def _mount_own_system() -> None:
    for folder in (_IMAGE, _WRITES):
        os.makedirs(folder, exist_ok=True)
    mount("/", _IMAGE, flags=MountFlag.BIND)
    mount("tmpfs", _WRITES, fstype="tmpfs")
    for name in ("fs", "work"):
        os.mkdir(f"{_WRITES}/{name}", 0o755)


def _mount_disks() -> None:
    for folder in (_IMAGE, _WRITES):
        os.makedirs(folder, exist_ok=True)
    mount(_IMAGE_DISK, _IMAGE, fstype="erofs", flags=MountFlag.RDONLY)
    mount(_WRITES_DISK, _WRITES, fstype="ext4", data="discard,noinit_itable")
    for name in ("fs", "work"):
        with suppress(FileExistsError):
            os.mkdir(f"{_WRITES}/{name}", 0o755)


def _write_files(files: Mapping[str, tuple[int, str]]) -> None:
    """Write the files that config.json binds into the root, by their names in FILES."""
    os.makedirs(FILES, exist_ok=True)
    for name, (mode, content) in files.items():
        if not name.isdecimal():
            raise InvalidArgumentError(f"no file can be called {name!r}")
        with open(f"{FILES}/{name}", "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(a2b_base64(content))
