"""What has to be there before the first machine: kernel and system image, kept by their inputs.

microvm/packages/linux-image-…/     Debian's package, unpacked
microvm/images/KEY/vmlinux, initrd  KEY is a digest of everything in them
microvm/current                     a link to the image that new machines use
"""

import hashlib
import io
import os
import platform
import tempfile
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
    image = _read(path)
    if not module_folder:
        module_folder = f"/lib/modules/{kernelfile.release(image) or platform.release()}"
    files = {"vmlinux": kernelfile.vmlinux(image), "initrd": _initrd(module_folder)}
    built = _keep(f"{folder}/images", files)
    _point(f"{folder}/current", built)
    return built


def current(root: str) -> str:
    """Return the folder of the image in use. Raises NotFoundError before the first set_up()."""
    link = f"{root}/microvm/current"
    if not os.path.exists(f"{link}/initrd"):
        raise NotFoundError(
            "there is no kernel for virtual machines yet", hint="run: orlop vm setup"
        )
    return os.path.realpath(link)


def _initrd(module_folder: str) -> bytes:
    archive = io.BytesIO()
    writer = CpioWriter(archive)
    system.write(writer, modules.wanted(module_folder))
    writer.close()
    return archive.getvalue()


def _keep(folder: str, files: dict[str, bytes]) -> str:
    digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in files.values()))
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
        raise InvalidArgumentError(f"cannot read the kernel {path}: {error.strerror}") from error
