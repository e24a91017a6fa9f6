"""What a procedure does to files and mounts, a verb for a few system calls."""

import ctypes
import os
import stat
import struct
import time
from collections.abc import Callable, Sequence

from orlop.kernel import numbers
from orlop.kernel.mount import FsConfig, MoveMount, OpenTree
from orlop.kernel.paths import Resolve
from orlop.kernel.procedure import Argument, Procedure, Result, Slot
from orlop.kernel.syscall import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE
from orlop.runtime.options import Options
from orlop.runtime.recipe.recipe import ProcessRecipe, Recipe

File = Result | Slot | int

_CLOEXEC = os.O_CLOEXEC
_HOW = struct.Struct("=QQQ")
_PLAIN = int(Resolve.IN_ROOT | Resolve.NO_MAGICLINKS | Resolve.NO_SYMLINKS)
_IN_ROOT = int(Resolve.IN_ROOT | Resolve.NO_MAGICLINKS)
_NO_MAGICLINKS = int(Resolve.NO_MAGICLINKS)
_ATTRIBUTES = struct.Struct("=QQQQ")
_BY_DESCRIPTOR = int(MoveMount.F_EMPTY_PATH | MoveMount.T_EMPTY_PATH)
_CLONE = int(OpenTree.CLONE | OpenTree.EMPTY_PATH) | _CLOEXEC
_FSOPEN_CLOEXEC = 1
_TIME = struct.Struct("=qq")  # timespec


class Writer:
    """Writes into *procedure*. Paths are the container's, whose root is ours by then.

    The rest is what the steps know.
    """

    def __init__(
        self,
        recipe: Recipe | ProcessRecipe,
        descriptors: Sequence[int] = (),
        *,
        doors: int,
        idle: bool = False,
        timed: bool = False,
    ) -> None:
        """Those of a *recipe* for a container come with *descriptors*.

        With *timed* each step begins with a look at the clock.
        """
        self.procedure = Procedure()
        self.container = recipe if isinstance(recipe, Recipe) else None
        self.process = recipe.process if isinstance(recipe, Recipe) else recipe
        self.descriptors = descriptors
        self.doors = doors  # how many files of the cgroup are written to
        self.idle = idle  # the program is one of ours that does nothing
        self.root: Result | None = None
        self.first_place = 0  # the call that looks for the program in the first place it may be
        self.mounts: dict[int, File] = {}  # detached, by their place in the plan
        self._steps: list[tuple[int, str]] = []
        self._times: list[int] | None = [] if timed else None  # where the kernel writes them

    @property
    def recipe(self) -> Recipe:
        """The container's recipe; only its first process has one."""
        assert self.container is not None
        return self.container

    @property
    def is_durable(self) -> bool:
        """Whether the process outlives the shim."""
        return self.container is not None and self.container.durable

    def call(
        self, number: int, *arguments: Argument, may_fail: bool = False, else_skip: bool = False
    ) -> Result:
        """As Procedure.call."""
        return self.procedure.call(number, *arguments, may_fail=may_fail, else_skip=else_skip)

    def step(self, name: str) -> None:
        """Begin the step *name*: what fails from here on is its failure."""
        self._steps.append((self.procedure.calls, name))
        if self._times is not None:
            place = self.procedure.keep(bytes(_TIME.size))
            self.call(numbers.CLOCK_GETTIME, time.CLOCK_MONOTONIC, place)
            self._times.append(place)

    def begun(self) -> list[tuple[str, int]]:
        """Return when each step of the last run has begun, in nanoseconds; none if not timed."""
        found = []
        for (_, name), place in zip(self._steps, self._times or (), strict=False):
            seconds, nanoseconds = _TIME.unpack(ctypes.string_at(place, _TIME.size))
            found.append((name, seconds * 1_000_000_000 + nanoseconds))
        return found

    def step_of(self, call: int) -> str:
        """Return the step of a call."""
        return next((name for first, name in reversed(self._steps) if first <= call), "")

    def open(
        self,
        path: str | Slot,
        flags: int = os.O_PATH,
        *,
        links: bool = False,
    ) -> Result:
        """Open *path* in the root: over no link, or with *links* over all but magic ones.

        While the root is the working directory.
        """
        how = _HOW.pack(flags | _CLOEXEC, 0, _IN_ROOT if links else _PLAIN)
        name = path if isinstance(path, Slot) else os.fsencode(path)
        return self.call(numbers.OPENAT2, AT_FDCWD, name, how, len(how))

    def find(self, path: Slot, flags: int = os.O_PATH) -> Result:
        """Open *path*, by the working directory, over no magic link; where it fails, skip."""
        how = _HOW.pack(flags | _CLOEXEC, 0, _NO_MAGICLINKS)
        return self.call(numbers.OPENAT2, AT_FDCWD, path, how, len(how), else_skip=True)

    def create(self, folder: File, name: str, mode: int) -> Result:
        """Make a file and open it for writing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CLOEXEC
        return self.call(numbers.OPENAT, folder, name.encode(), flags, mode)

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """Make the folder, where it is not there already."""
        above, name = os.path.split(path)
        self.call(numbers.MKDIRAT, self.open(above), os.fsencode(name), mode, may_fail=True)

    def make_file(self, path: str) -> None:
        """Make an empty file, where none is there already."""
        above, name = os.path.split(path)
        mode = stat.S_IFREG | 0o644
        self.call(numbers.MKNODAT, self.open(above), os.fsencode(name), mode, 0, may_fail=True)

    def filesystem(self, fstype: str, source: str, options: Options) -> Result:
        """Make a file system and return a detached mount of it."""
        config = self.call(numbers.FSOPEN, fstype.encode(), _FSOPEN_CLOEXEC)
        if source:
            self.set_string(config, "source", source)
        for key, value in options.filesystem:
            if value is None:
                self._configure(config, FsConfig.SET_FLAG, key.encode(), 0, 0)
            else:
                self.set_string(config, key, value)
        mount = self.made(config, options.set_)
        for propagation, recursive in options.propagation:
            self.set_attributes(mount, propagation=propagation, recursive=recursive)
        return mount

    def set_string(self, config: Result, key: str, value: str) -> None:
        """Set an option of the file system that *config* is to be."""
        self._configure(config, FsConfig.SET_STRING, key.encode(), os.fsencode(value), 0)

    def set_file(self, config: Result, key: str, file: File) -> None:
        """Set an option to an open file."""
        self._configure(config, FsConfig.SET_FD, key.encode(), 0, file)

    def made(self, config: Result, attributes: int) -> Result:
        """Make the file system that was configured, and return its mount."""
        self._configure(config, FsConfig.CMD_CREATE, 0, 0, 0)
        return self.call(numbers.FSMOUNT, config, _FSOPEN_CLOEXEC, attributes)

    def _configure(
        self, config: Result, command: FsConfig, key: Argument, value: Argument, extra: Argument
    ) -> None:
        self.call(numbers.FSCONFIG, config, int(command), key, value, extra)

    def clone(self, mount: File, *, recursive: bool = False) -> Result:
        """Return a detached copy of *mount*."""
        flags = _CLONE | (AT_RECURSIVE if recursive else 0)
        return self.call(numbers.OPEN_TREE, mount, b"", flags)

    def clone_at(self, folder: File, name: str) -> Result:
        """Return a detached mount of the file *name* in *folder*, which is no link."""
        flags = int(OpenTree.CLONE | OpenTree.SYMLINK_NOFOLLOW) | _CLOEXEC
        return self.call(numbers.OPEN_TREE, folder, name.encode(), flags)

    def attach(self, mount: File, target: File) -> None:
        """Attach *mount* on *target*."""
        self.call(numbers.MOVE_MOUNT, mount, b"", target, b"", _BY_DESCRIPTOR)

    def set_attributes(
        self, mount: File, *, set_: int = 0, propagation: int = 0, recursive: bool = False
    ) -> None:
        """Change a mount's attributes."""
        argument = _ATTRIBUTES.pack(set_, 0, propagation, 0)
        flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
        self.call(numbers.MOUNT_SETATTR, mount, b"", flags, argument, len(argument))


#: Writes down what one step does.
Step = Callable[[Writer], None]
