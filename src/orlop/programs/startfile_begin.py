"""The beginning of a start file: loads its modules, then runs the command line.

startfile.py compiles it into the file and replaces the three values below; so it imports only
built-in modules.
"""

import gc
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.programs.startfile import Entry

_MODULES: "tuple[Entry, ...]" = "MODULES"  # type: ignore[assignment]
_PATH: "tuple[str, ...]" = "PATH"  # type: ignore[assignment]  # where other modules are
_SCRIPT = "SCRIPT"  # orlop-main, which writes start files


def _are_current() -> bool:
    """Whether every source is unchanged."""
    try:
        for _, _, source, size, time_ns, _ in _MODULES:
            status = posix.stat(source)
            if status.st_size != size or status.st_mtime_ns != time_ns:
                return False
    except OSError:
        return False
    return True


def _load() -> None:
    loaded, new = sys.modules, type(sys)
    for name, folders, source, _, _, code in _MODULES:
        module = loaded[name] = new(name)
        parent, _, last = name.rpartition(".")
        module.__file__ = source
        module.__package__ = parent if folders is None else name
        if folders is not None:
            module.__path__ = folders
        if parent:
            setattr(loaded[parent], last, module)
        exec(code, module.__dict__)


if not _are_current():
    posix.execv(sys.executable, [sys.executable, "-I", "-S", _SCRIPT, *sys.argv[1:]])
sys.path[:] = _PATH
gc.disable()  # none of this is garbage
_load()
gc.enable()

from orlop.cli.main import program  # noqa: E402

posix._exit(program())
