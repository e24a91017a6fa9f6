"""Start files: all imports of a command, in one file of bytecode, in order.

Finding and reading a module takes a hundred microseconds, and `orlop exec` needs twenty-two.
So the first `run` and the first `exec` record their imports, in lib/orlop beside the folder of
commands, and `scripts/orlop` has the interpreter run that file. As for the interpreter's own
bytecode, each source must have its recorded size and time; otherwise the file is written again
(startfile_begin.py).
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER, PathFinder, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

    #: Module, folders if it is a package, source, the source's size and time in ns, code.
    Entry = tuple[str, list[str] | None, str, int, int, CodeType]

_BEGIN = "orlop.programs.startfile_begin"
_UNCHECKED = (1).to_bytes(4, "little") + bytes(8)  # flags: by hash, unchecked; PEP 552


def recorded(word: str, script: str) -> int:
    """Run the command line with the command *word*; return its exit code; write the start file.

    *script* is the path of `orlop-main`.
    """
    folder = os.path.join(os.path.dirname(os.path.dirname(script)), "lib", "orlop")
    recorder = _Recorder() if _can_write(folder) else None
    from orlop.cli.main import program

    code = program()
    if recorder is not None and recorder.is_of_the_package_alone():
        recorder.write(os.path.join(folder, f"{word}.pyc"), script)
    return code


def _can_write(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


class _Recorder:
    """Records the package's modules that are imported from now on, in order."""

    def __init__(self) -> None:
        self._modules: list[Entry] = []
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]  # imported before we could record them
        self._before = set(sys.modules)
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]  # a finder by its method

    def find_spec(
        self, name: str, path: list[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the normal spec of *name*; record it if it is ours."""
        spec = PathFinder.find_spec(name, path, target) if _is_ours(name) else None
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(name, spec.loader.path, self._modules)
        return spec

    def is_of_the_package_alone(self) -> bool:
        """Whether only our own modules were imported; foreign ones would be slow every time."""
        new = [module for name, module in sys.modules.items() if name not in self._before]
        sources = [m.__name__ for m in new if (getattr(m, "__file__", None) or "").endswith(".py")]
        return all(map(_is_ours, sources))

    def write(self, path: str, script: str) -> None:
        """Write the start file; failing to is no error."""
        try:
            _replace(path, MAGIC_NUMBER + _UNCHECKED + marshal.dumps(self._beginning(script)))
        except OSError:
            return

    def _beginning(self, script: str) -> CodeType:
        """Return the code of startfile_begin, with the modules to load."""
        parent = os.path.dirname(os.path.dirname(__file__))
        source = os.path.join(parent, "programs", "startfile_begin.py")
        code = SourceFileLoader(_BEGIN, source).get_code(_BEGIN)
        assert code is not None
        given = {"MODULES": tuple(self._modules), "PATH": tuple(sys.path), "SCRIPT": script}
        return code.replace(
            co_consts=tuple(given.get(c, c) if type(c) is str else c for c in code.co_consts)
        )


class _Loader(SourceFileLoader):
    """Loads normally, and records what it has loaded."""

    def __init__(self, name: str, path: str, modules: list[Entry]) -> None:
        super().__init__(name, path)
        self._modules = modules

    def exec_module(self, module: ModuleType) -> None:
        status = os.stat(self.path)
        code = self.get_code(self.name)
        if code is None:
            raise ImportError(f"{self.path} has no code")
        exec(code, module.__dict__)
        folders = list(module.__path__) if self.is_package(self.name) else None
        entry = (self.name, folders, self.path, status.st_size, status.st_mtime_ns, code)
        self._modules.append(entry)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "orlop"


def _replace(path: str, data: bytes) -> None:
    beside = f"{path}.{os.getpid()}"
    with open(beside, "xb") as file:
        file.write(data)
        os.fsync(file.fileno())  # a power failure could leave an empty file, which would stay
    os.rename(beside, path)
