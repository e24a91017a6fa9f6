"""An interpreter that a container may see: one that nobody can write to.

Until its execve a container's process is a copy of ours, and its /proc/self/exe is the
interpreter. If that were the host's file, a container could write to it (CVE-2019-5736). So
`orlop-runtime` runs from a read-only file system, an overlay with only lower layers, mounted
once for all later commands:

    PLACE/bin          the interpreter's folder, read-only, with the name orlop-python added
    PLACE/names        that name
    PLACE/start        the program; the rest is in PLACE/index and PLACE/code: sealed_start.py
    PLACE/pyvenv.cfg   the location of its library; PLACE/lib for a libpython by $ORIGIN

PLACE is the script's own folder below /run/orlop-sealed, so the script finds it without
starting a program. Reasons and figures: docs/decisions/runtime-sealing.md.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import orlop
from orlop.lifecycle import unsealed

_ROOT = "/run/orlop-sealed"
_NAME = "orlop-python"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_START = """\
import marshal
with open({begin!r}, "rb") as file:
    begin, arguments = marshal.loads(file.read())
exec(begin)
begin(*arguments)
"""
_PROGRAM = """\
import sys
sys.path.append(sys.argv.pop(1))
from orlop.programs.oci.script import unsealed
unsealed()
"""


def run_from_memory() -> NoReturn:
    """Execute a sealed copy of the interpreter in memory, used only by this process."""
    from orlop.shim.launch import sealed_copy

    interpreter = _interpreter()
    arguments = [interpreter, "-I", "-S", "-c", _PROGRAM, _package_parent(), *sys.argv[1:]]
    environment = dict(os.environ)
    if library := _own_library(interpreter):  # $ORIGIN does not work in memory
        environment["LD_LIBRARY_PATH"] = library
    os.execve(sealed_copy(interpreter), arguments, environment)


def run_from(place: str, *, anew: bool) -> NoReturn:
    """Execute PLACE's interpreter; make *place* first if it is missing, or if *anew*."""
    interpreter = os.path.join(place, "bin", _NAME)
    start = os.path.join(place, "start")
    with _locked(place):
        whole = os.access(interpreter, os.X_OK) and os.path.exists(start)
        if anew or not whole:
            _release(os.path.join(place, "bin"))
            try:
                _fill(place, _interpreter())
                _mount(place, os.path.dirname(_interpreter()))
            except BaseException as error:
                _remove(place)
                unsealed.record(place.removeprefix(_ROOT), f"{type(error).__name__}: {error}")
                raise
            unsealed.forget(place.removeprefix(_ROOT))
    os.execv(interpreter, [interpreter, "-I", "-S", start, *sys.argv[1:]])


@contextmanager
def _locked(place: str) -> Iterator[None]:
    import fcntl

    os.makedirs(os.path.join(place, "bin"), 0o755, exist_ok=True)
    fd = os.open(place, _FOLDER)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _fill(place: str, interpreter: str) -> None:
    folder, name = os.path.split(interpreter)
    os.makedirs(os.path.join(place, "names"), 0o755, exist_ok=True)
    _link(name, os.path.join(place, "names", _NAME))
    if library := _own_library(interpreter):
        _link(library, os.path.join(place, "lib"))
    _write(os.path.join(place, "pyvenv.cfg"), f"home = {folder}\n")
    from orlop.programs.oci.sealed_code import beginning, gathered

    script = os.path.join(place.removeprefix(_ROOT), "orlop-runtime")
    code, begin = os.path.join(place, "code"), os.path.join(place, "index")
    index, blob = gathered()
    _write(code, blob)
    _write(begin, beginning(index, code, _package_parent(), interpreter, script))
    _write(os.path.join(place, "start"), _START.format(begin=begin))


def _mount(place: str, programs: str) -> None:
    from orlop.kernel.mount import MountAttr, move_mount
    from orlop.runtime.filesystems import filesystem
    from orlop.runtime.options import Options

    fds = [os.open(path, _FOLDER) for path in (f"{place}/names", programs, f"{place}/bin")]
    layers = f"/proc/self/fd/{fds[0]}:/proc/self/fd/{fds[1]}"
    attributes = int(MountAttr.RDONLY | MountAttr.NOSUID | MountAttr.NODEV)
    options = Options(set_=attributes, filesystem=(("lowerdir", layers),))
    fds.append(filesystem("overlay", "orlop-sealed", options))
    move_mount(fds[3], fds[2])
    for fd in fds:
        os.close(fd)


def _release(folder: str) -> None:
    """Unmount an old PLACE; processes that run from it continue."""
    from orlop.kernel.mount import Unmount, umount

    if os.path.ismount(folder):
        umount(folder, Unmount.DETACH | Unmount.NOFOLLOW)


def _remove(place: str) -> None:
    """Remove the remains of a PLACE that could not be made."""
    import shutil

    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):  # the folders above may be shared
        os.removedirs(os.path.dirname(place))


def _interpreter() -> str:
    """Return the path of the interpreter itself, not of a virtual environment's link."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def _package_parent() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(orlop.__file__)))


def _own_library(interpreter: str) -> str:
    """Return the folder of libpython if the interpreter looks for it beside itself."""
    library = os.path.join(os.path.dirname(os.path.dirname(interpreter)), "lib")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return library if os.path.exists(f"{library}/libpython{version}.so.1.0") else ""


def _link(target: str, path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(f"{path}.new")
    os.symlink(target, f"{path}.new")
    os.replace(f"{path}.new", path)


def _write(path: str, content: str | bytes) -> None:
    with open(f"{path}.new", "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    os.replace(f"{path}.new", path)
