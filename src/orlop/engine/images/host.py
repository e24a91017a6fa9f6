"""The built-in image `host`, as a record among the others."""

import functools
import io

from orlop.engine.answers import ImageRecord
from orlop.images import host
from orlop.model.mount import Mount
from orlop.snapshots.interface import LayerKey, Snapshots, layer_key

HOST = host.NAME


@functools.cache
def _made() -> host.HostImage:
    """Read this machine's files, once per engine; it takes some milliseconds."""
    return host.host_image()


def host_image() -> ImageRecord:
    made = _made()
    return ImageRecord(
        id=HOST,
        manifest=None,
        config=made.config,
        layers=(layer_key(made.diff_id),),
        tags=(HOST,),
        size=len(made.tar),
    )


def host_layer() -> LayerKey:
    return layer_key(_made().diff_id)


def add_host_layer(snapshots: Snapshots) -> None:
    """Make sure the image's layer exists and can be mounted. Blocking."""
    if not snapshots.has_layer(host_layer()):
        snapshots.add_layer(host_layer(), io.BytesIO(_made().tar))
    snapshots.stack([host_layer()])  # small, and trusted: it needs no worker


def host_base() -> tuple[Mount, ...]:
    """Return the mounts of the machine's own folders in a container's root."""
    return _made().base
