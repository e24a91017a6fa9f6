"""The kernel modules a guest needs, in the order in which they can be loaded."""

import lzma
import os
import re
from collections.abc import Iterator, Mapping

import zstandard

#: What is not built into Debian's cloud kernel. A kernel that has one built in has no file for it.
WANTED = ("erofs", "overlay", "virtio_blk", "virtio_net", "ext4")
_SUFFIXES = (".ko", ".ko.xz", ".ko.zst")


def wanted(folder: str) -> list[tuple[str, bytes]]:
    """Return names and contents of the modules below *folder*, each after what it depends on."""
    files = dict(_files(folder))
    found: dict[str, bytes] = {}
    for name in WANTED:
        _add(name, files, found)
    return list(found.items())


def _add(name: str, files: Mapping[str, str], found: dict[str, bytes]) -> None:
    if name in found or name not in files:
        return
    data = _read(files[name])
    depends = re.search(rb"\0depends=([^\0]*)\0", data)
    for dependency in depends[1].decode().split(",") if depends else ():
        _add(_plain(dependency), files, found)
    found[name] = data


def _files(folder: str) -> Iterator[tuple[str, str]]:
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith(_SUFFIXES):
                yield _plain(name.split(".ko", 1)[0]), f"{place}/{name}"


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        data = file.read()
    if path.endswith(".xz"):
        return lzma.decompress(data)
    if path.endswith(".zst"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data
