"""The folder of a running build, with its context. Removed at its end, or at the next start."""

import os
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from orlop.engine.streams import Inflow, sent_by_client
from orlop.engine.threads import beside_client, in_thread
from orlop.errors import InvalidArgumentError, NotFoundError
from orlop.images.archives.members import Decompressed
from orlop.kernel.paths import open_in_root
from orlop.layers.apply import Unpacker
from orlop.layers.budget import DEFAULT, Account
from orlop.layers.header import BLOCK_DEVICE, CHAR
from orlop.layers.removal import remove_tree
from orlop.layers.tar import TarReader

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@asynccontextmanager
async def build_folder(builds: Path) -> AsyncIterator[Path]:
    """Make a folder in *builds* that only root may enter; it is removed at the end."""
    folder = builds / secrets.token_hex(8)
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        await in_thread(remove_tree, str(folder))


def remove_old(builds: Path) -> None:
    """Remove the folders of builds that ended with their engine."""
    for folder in builds.iterdir() if builds.exists() else ():
        remove_tree(str(folder))


async def unpack(source: AsyncIterator[bytes], folder: Path) -> None:
    """Unpack the tar *source*, which may be compressed, into the new folder *folder*.

    InvalidArgumentError if it is no tar, or has a device.
    """
    inflow = Inflow(source)

    def work() -> None:
        folder.mkdir(mode=0o755)
        root = os.open(folder, _FOLDER)
        account = Account(DEFAULT, "archive", fd=root)
        reader = TarReader(account.metered(Decompressed(inflow)))
        unpacker = Unpacker(root, account, flat=True, whiteouts=False)
        try:
            for entry in reader:
                if entry.kind in (CHAR, BLOCK_DEVICE):
                    name = os.fsdecode(entry.name)[:200]
                    raise InvalidArgumentError(f"the build context has a device: {name}")
                unpacker.take(entry, reader)
            unpacker.finish()
        finally:
            unpacker.close()
            os.close(root)

    with sent_by_client():
        await beside_client(work)


def read_text(root: int, path: str, *, most_bytes: int) -> bytes:
    """Return the regular file *path* below *root*, which links in it do not leave.

    NotFoundError, InvalidArgumentError.
    """
    try:
        found = open_in_root(root, path)
    except OSError as error:
        raise NotFoundError(f"{path[:300]}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise InvalidArgumentError(f"{path[:300]} is not a regular file")
        with open(f"/proc/self/fd/{found}", "rb") as file:
            return file.read(most_bytes + 1)
    finally:
        os.close(found)


def remove_file(root: int, path: str) -> None:
    """Remove the file *path* below *root*, if it is there and no folder."""
    parent, name = os.path.split(path.strip("/"))
    try:
        fd = open_in_root(root, parent or "/", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        with suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(name, dir_fd=fd)
    finally:
        os.close(fd)
