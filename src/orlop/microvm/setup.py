"""What has to be there before the first machine: kernel and system image, kept by their inputs.

microvm/packages/linux-image-…/     Debian's package, unpacked
microvm/images/KEY/vmlinux, initrd  KEY is a digest of what they were built from
microvm/current                     a link to the image that new machines use
microvm/source                      what it was built from, in JSON
"""

import hashlib
import io
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress

from orlop.errors import InvalidArgumentError, NotFoundError, UnsupportedError
from orlop.microvm import kernelfile, modules, system
from orlop.microvm.cpio import CpioWriter


def set_up(root: str, kernel: str | None = None) -> str:
    """Build what machines below *root* start from; return its folder.

    *kernel* is a bzImage or vmlinux; by default Debian's cloud kernel, downloaded by apt-get. What
    was built from the same inputs before is used again.
    """
    if platform.machine() != "x86_64":
        raise UnsupportedError("virtual machines need an x86-64 host")
    folder = f"{root}/microvm"
    os.makedirs(f"{folder}/packages", 0o700, exist_ok=True)
    os.makedirs(f"{folder}/images", 0o700, exist_ok=True)
    if kernel is None:
        path, module_folder = kernelfile.fetch(f"{folder}/packages")
    else:
        path, module_folder = kernel, ""
    return _build(folder, path, module_folder)


def current(root: str) -> str:
    """Return the folder of the image in use; it is built again if this host's files have changed.

    Raises NotFoundError before the first set_up().
    """
    folder = f"{root}/microvm"
    try:
        with open(f"{folder}/source") as file:
            source = json.load(file)
    except FileNotFoundError:
        raise NotFoundError(
            "there is no kernel for virtual machines yet", hint="run: orlop vm setup"
        ) from None
    if _seen(source["files"]) != source["files"]:
        return _build(folder, source["kernel"], source["modules"])
    return os.path.realpath(f"{folder}/current")


def _build(folder: str, path: str, module_folder: str) -> str:
    image = _read(path)
    if not module_folder:
        module_folder = f"/lib/modules/{kernelfile.release(image) or platform.release()}"
    archive = io.BytesIO()
    writer = CpioWriter(archive)
    kernel_modules = modules.wanted(module_folder)
    used = [*system.write(writer, kernel_modules), system.__file__]
    writer.close()
    inputs = [image, *(data for _, data in kernel_modules), *map(_read, used)]
    files = {"vmlinux": kernelfile.vmlinux(image), "initrd": archive.getvalue()}
    built = _keep(f"{folder}/images", inputs, files)
    source = {"kernel": path, "modules": module_folder, "files": _seen(used)}
    with open(f"{folder}/source.new", "w") as file:
        json.dump(source, file)
    _point(f"{folder}/current", built)
    os.rename(f"{folder}/source.new", f"{folder}/source")
    for name in os.listdir(f"{folder}/images"):
        if name != os.path.basename(built):
            shutil.rmtree(f"{folder}/images/{name}", ignore_errors=True)
    return built


def _seen(paths: Iterable[str]) -> dict[str, list[int]]:
    """Return size and time of change of each file that exists."""
    found: dict[str, list[int]] = {}
    for path in paths:
        with suppress(FileNotFoundError):
            status = os.stat(path)
            found[path] = [status.st_size, status.st_mtime_ns]
    return found


def _keep(folder: str, inputs: Iterable[bytes], files: dict[str, bytes]) -> str:
    """Write *files*, unless they have been built of the same inputs before."""
    digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in inputs))
    target = f"{folder}/{digest.hexdigest()[:24]}"
    if os.path.exists(target):
        return target
    staged = tempfile.mkdtemp(dir=folder, prefix=".")
    for name, data in files.items():
        with open(f"{staged}/{name}", "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    os.rename(staged, target)
    return target


def _point(link: str, target: str) -> None:
    beside = f"{link}.new"
    with suppress(FileNotFoundError):
        os.unlink(beside)
    os.symlink(os.path.relpath(target, os.path.dirname(link)), beside)
    os.rename(beside, link)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {path}: {error.strerror}") from error
