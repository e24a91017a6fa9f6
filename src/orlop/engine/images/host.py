"""The built-in image `host`: this machine's own /usr, and little else."""

from collections.abc import Sequence

from orlop.engine.answers import ImageRecord
from orlop.engine.settings import Settings
from orlop.errors import UnsupportedError
from orlop.model.image import ImageConfig, Process, RootFS
from orlop.model.mount import Mount
from orlop.model.platform import host_platform

HOST = "host"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def host_image() -> ImageRecord:
    platform = host_platform()
    config = ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        config=Process(env=(_PATH,), cmd=("/bin/sh",)),
        rootfs=RootFS("layers", ()),
    )
    return ImageRecord(id=HOST, manifest=None, config=config, tags=(HOST,))


def host_base(settings: Settings) -> Sequence[Mount]:
    raise UnsupportedError("the host image is not built in yet")
