"""The guest's system image: this host's Python, the modules that the agent imports, libraries.

The agent is started here once, without a machine, to learn which files its imports need. Python
modules go in compiled and without their sources.
"""

import importlib.util
import json
import marshal
import os
import re
import subprocess
import sys
from collections.abc import Iterator

from orlop.errors import UnsupportedError
from orlop.microvm.cpio import CpioWriter

AGENT = "orlop.guest.agent"
#: Packages of which the agent imports modules only when a container needs them.
_LATER = ("orlop.runtime", "orlop.kernel")
PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_FOLDERS = ("/dev", "/proc", "/sys", "/tmp", "/run", "/etc", "/containers")
#: Where modules of the guest's kernel lie, named so that their order is the order to load them in.
MODULES = "/modules"
#: Where our package lies in the guest.
CODE = "/code"
_SCRIPT = "/agent.py"

_LOOK = """
import json, pkgutil, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    package = __import__(name, fromlist=[""])
    for found in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{name}."):
        __import__(found.name)
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps(files))
"""


def command() -> list[str]:
    """Return how the agent is started, in the guest."""
    return [interpreter(), "-I", "-S", "-B", _SCRIPT]


def interpreter() -> str:
    """Return the path of the interpreter that goes into the image, here and there."""
    return os.path.realpath(sys.executable)


def write(writer: CpioWriter, kernel_modules: list[tuple[str, bytes]]) -> list[str]:
    """Add everything that the guest has to *writer*; return the paths of this host's files.

    Raises UnsupportedError if this host's Python cannot run the agent.
    """
    for folder in _FOLDERS:
        writer.folder(folder)
    writer.device("/dev/console", 5, 1)
    writer.device("/dev/null", 1, 3)
    script = f"import sys; sys.path.append({CODE!r}); from {AGENT} import main; main()\n"
    writer.file(_SCRIPT, script.encode())
    for number, (name, data) in enumerate(kernel_modules):
        writer.file(f"{MODULES}/{number:02}-{name}.ko", data)
    binaries = [interpreter()]
    imports = _imports()
    for name, path in sorted(imports.items()):
        if path.endswith(".py"):
            writer.file(_place(path) + "c", _compiled(name, path))
        else:
            binaries.append(path)
    for path in dict.fromkeys([*binaries, *_libraries(binaries)]):
        with open(path, "rb") as file:
            writer.file(path, file.read(), mode=0o755)
    return [*imports.values(), *binaries]


def _imports() -> dict[str, str]:
    words = [interpreter(), "-I", "-S", "-c", _LOOK, PACKAGES, AGENT, *_LATER]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise UnsupportedError(f"{interpreter()} cannot run the agent: {result.stderr[-300:]}")
    files = json.loads(result.stdout)
    return {name: path for name, path in files.items() if path}


def _place(path: str) -> str:
    """Return where the module at *path* lies in the guest: our own package is moved."""
    if path.startswith(f"{PACKAGES}/orlop/"):
        return CODE + path.removeprefix(PACKAGES)
    return path


def _compiled(name: str, path: str) -> bytes:
    """Return the module as a .pyc that is used without looking at its source. PEP 552."""
    with open(path, "rb") as file:
        code = compile(file.read(), name, "exec", dont_inherit=True, optimize=2)
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def _libraries(binaries: list[str]) -> Iterator[str]:
    for binary in binaries:
        result = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False)
        for found in re.finditer(r"(?:=> |^\t)(/\S+) \(", result.stdout, re.MULTILINE):
            yield found[1]
