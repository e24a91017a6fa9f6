"""The input of config.json."""

from collections.abc import Mapping
from typing import NamedTuple

from orlop.model.container import ContainerOptions, MountPoint
from orlop.model.image import Process as ImageProcess
from orlop.model.oci import IDMapping


class Given(NamedTuple):
    """A container's options and its image, with every name in them resolved."""

    id: str
    options: ContainerOptions
    image: ImageProcess
    hostname: str
    mounts: tuple[MountPoint, ...] = ()  # volumes too; sources are host paths
    files: Mapping[str, str] = {}  # container path -> host path: /etc/hosts and the like
    #: Namespace type of config.json -> path, for modes "container:NAME".
    joined: Mapping[str, str] = {}
    uid_mappings: tuple[IDMapping, ...] = ()  # of a user namespace; empty for none
    gid_mappings: tuple[IDMapping, ...] = ()
    linked: tuple[str, ...] = ()  # environment variables about linked containers
    init: str = ""  # host path of the init program, if options.init
