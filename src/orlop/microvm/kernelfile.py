"""From a kernel as distributions ship it to one that a virtual machine starts from directly.

A bzImage unpacks itself in the guest, which takes 0.8 s under emulation; the ELF inside is unpacked
here once. Linux, Documentation/arch/x86/boot.rst, "Details of Header Fields".
"""

import os
import re
import shutil
import struct
import subprocess
import tempfile

import zstandard

from orlop.errors import InvalidArgumentError, UnavailableError, UnsupportedError

_PACKAGE = "linux-image-cloud-amd64"
_HINT = "name a kernel with --kernel"
_ELF, _ZSTD = b"\x7fELF", b"\x28\xb5\x2f\xfd"
_SETUP_SECTORS, _MAGIC_AT, _VERSION_AT, _PAYLOAD_AT = 0x1F1, 0x202, 0x20E, 0x248
_SECTOR = 512


def vmlinux(image: bytes) -> bytes:
    """Return the ELF kernel in *image*, a bzImage or such an ELF.

    Raises InvalidArgumentError if it is neither, or is compressed other than by zstd.
    """
    if image.startswith(_ELF):
        return image
    if image[_MAGIC_AT : _MAGIC_AT + 4] != b"HdrS":
        raise InvalidArgumentError("the kernel file is neither a bzImage nor an ELF vmlinux")
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_AT)
    start = ((image[_SETUP_SECTORS] or 4) + 1) * _SECTOR + offset
    payload = image[start : start + length]
    if not payload.startswith(_ZSTD):
        raise InvalidArgumentError(
            "the kernel file is not compressed by zstd", hint="name an unpacked vmlinux"
        )
    kernel = zstandard.ZstdDecompressor().decompressobj().decompress(payload)
    if not kernel.startswith(_ELF):
        raise InvalidArgumentError("the kernel file holds no ELF kernel")
    return kernel


def release(image: bytes) -> str | None:
    """Return the version that a bzImage names, as `uname -r` would; None for an ELF."""
    if image.startswith(_ELF):
        return None
    (pointer,) = struct.unpack_from("<H", image, _VERSION_AT)
    text = image[pointer + _SECTOR : pointer + _SECTOR + 256]
    return text.split(b"\0", 1)[0].decode("ascii", "replace").split(" ", 1)[0]


def fetch(folder: str) -> tuple[str, str]:
    """Download Debian's cloud kernel into *folder*; return the paths of the kernel and its modules.

    The package is unpacked there, not installed: the host's own boot is left alone. Raises
    UnsupportedError where apt-get is missing, UnavailableError if it fails.
    """
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise UnsupportedError(f"cannot fetch a kernel: no {program} here", hint=_HINT)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        os.chmod(place, 0o755)  # apt-get downloads as a user of its own, if that may write here
        _command("apt-get", "download", "-q", _dependency(), cwd=place)
        (package,) = (name for name in os.listdir(place) if name.endswith(".deb"))
        name = package.split("_", 1)[0]
        target = f"{folder}/{name}"
        if not os.path.exists(target):
            _command("dpkg-deb", "-x", package, "unpacked", cwd=place)
            os.rename(f"{place}/unpacked", target)
    version = name.removeprefix("linux-image-")
    modules = f"{target}/usr/lib/modules/{version}"
    return f"{target}/boot/vmlinuz-{version}", modules


def _dependency() -> str:
    """Return the package with the kernel itself, which the one with the known name depends on."""
    said = _command("apt-cache", "depends", _PACKAGE)
    found = re.search(r"Depends: (linux-image-[\w.+~-]+)", said)
    if found is None:
        raise UnavailableError(f"apt-cache knows no kernel behind {_PACKAGE}", hint=_HINT)
    return found[1]


def _command(*words: str, cwd: str | None = None) -> str:
    result = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise UnavailableError(f"{words[0]} cannot fetch a guest kernel: {last}", hint=_HINT)
    return result.stdout
