"""What a start by a recipe writes to: a tmpfs of its own, with a folder for each overlay."""

import os
from collections.abc import Sequence

from orlop.kernel.mount import MountAttr
from orlop.runtime.filesystems import filesystem
from orlop.runtime.options import Options
from orlop.runtime.recipe.plan import Layer

_ATTRIBUTES = int(MountAttr.NODEV)
_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Writable:
    """*fd* is a detached mount: what is written is gone when it and the container are."""

    def __init__(self, layers: Sequence[Layer], *, size_bytes: int = 0) -> None:
        """Make it, of at most *size_bytes*; 0: as much as half of the memory."""
        words = [("mode", "700"), *([("size", str(size_bytes))] if size_bytes else [])]
        options = Options(set_=_ATTRIBUTES, filesystem=tuple(words))
        self.fd = filesystem("tmpfs", "orlop", options)
        self.uppers: list[int] = []
        self.works: list[int] = []
        try:
            for number, layer in enumerate(layers):
                self._make(number, layer)
        except BaseException:
            self.close()
            raise

    def _make(self, number: int, layer: Layer) -> None:
        upper, work = f"upper-{number}", f"work-{number}"
        os.mkdir(upper, 0o700, dir_fd=self.fd)
        os.chmod(upper, layer.mode, dir_fd=self.fd)
        if layer.uid or layer.gid:
            os.chown(upper, layer.uid, layer.gid, dir_fd=self.fd)
        os.mkdir(work, 0o700, dir_fd=self.fd)
        self.uppers.append(os.open(upper, _PATH, dir_fd=self.fd))
        self.works.append(os.open(work, _PATH, dir_fd=self.fd))

    def started(self) -> None:
        """Close what only the start needs."""
        for fds in (self.uppers, self.works):
            while fds:
                os.close(fds.pop())

    def close(self) -> None:
        """Let go of it."""
        self.started()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
