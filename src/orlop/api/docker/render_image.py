"""From the engine's images and volumes to the shapes of Docker's API."""

import re
from typing import Any

import msgspec

from orlop.api.docker.times import rfc3339
from orlop.engine.answers import (
    Deleted,
    Distribution,
    HistoryStep,
    ImageRecord,
    ImageSummary,
    Pruned,
    VolumeAnswer,
)
from orlop.model.image import Process
from orlop.model.moments import rfc3339_ns
from orlop.model.reference import Reference

Shape = dict[str, Any]
_FRACTION = re.compile(r"\.(\d*?)0*(?!\d)")


def render_summary(summary: ImageSummary) -> Shape:
    """Return an item of GET /images/json."""
    image = summary.image
    return {
        "Id": image.id,
        "ParentId": image.parent,
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Created": image.created_ns // 1_000_000_000,
        "Size": image.size,
        "VirtualSize": image.size,
        "SharedSize": summary.shared_size,
        "Labels": image.config.config.labels or None,
        "Containers": summary.containers,
    }


def render_image(image: ImageRecord, *, driver: str = "") -> Shape:
    """Return GET /images/{name}/json."""
    config = image.config
    return {
        "Id": image.id,
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": _created(config.created),
        "DockerVersion": "",
        "Author": config.author,
        "Config": render_process(config.config),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "OsVersion": config.os_version,
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Name": driver, "Data": None},
        "RootFS": {"Type": config.rootfs.type or "layers", "Layers": config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": rfc3339(image.tagged_ns)},
    }


def _created(text: str) -> str:
    """Return the time that an image's configuration tells, in Go's form; "" for none."""
    if rfc3339_ns(text) is None:
        return ""
    return _FRACTION.sub(lambda match: match[1] and f".{match[1]}", text)


def render_process(process: Process) -> Shape:
    """Return an image's Config with the fields that clients expect to be always there."""
    given: Shape = msgspec.to_builtins(process)
    expected: Shape = {
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": None,
        "Cmd": None,
        "Image": "",
        "Volumes": None,
        "WorkingDir": "",
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": None,
    }
    return expected | given


def render_history(step: HistoryStep) -> Shape:
    """Return an item of GET /images/{name}/history."""
    return {
        "Id": step.id,
        "Created": step.created_ns // 1_000_000_000,
        "CreatedBy": step.created_by,
        "Tags": step.tags or None,
        "Size": step.size,
        "Comment": step.comment,
    }


def render_pulled(image: ImageRecord, reference: Reference, *, is_new: bool) -> list[str]:
    """Return the lines that end a pull: which digest it is, and whether that was news."""
    digest = next((d for d in image.digests if d.startswith(f"{reference.familiar_name}@")), "")
    lines = [f"Digest: {digest.partition('@')[2]}"] if digest else []
    what = "Downloaded newer image" if is_new else "Image is up to date"
    return [*lines, f"Status: {what} for {reference.familiar}"]


def render_distribution(found: Distribution) -> Shape:
    """Return GET /distribution/{name}/json."""
    descriptor = found.descriptor
    return {
        "Descriptor": {
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest,
            "size": descriptor.size,
        },
        "Platforms": found.platforms,
    }


def render_deleted(deleted: Deleted) -> Shape:
    if deleted.untagged:
        return {"Untagged": deleted.untagged}
    return {"Deleted": deleted.deleted}


def render_pruned(pruned: Pruned, key: str) -> Shape:
    """Return the answer of a prune; *key* names the list of what is gone."""
    if key == "ImagesDeleted":
        gone: list[Any] = [render_deleted(image) for image in pruned.images]
    else:
        gone = list(pruned.names)
    return {key: gone or None, "SpaceReclaimed": pruned.reclaimed}


def render_volume(answer: VolumeAnswer) -> Shape:
    """Return a volume, with its use where it was measured."""
    volume = answer.volume
    shape: Shape = {
        "Name": volume.name,
        "Driver": volume.driver,
        "Mountpoint": answer.mountpoint,
        "CreatedAt": rfc3339(volume.created_ns // 1_000_000_000 * 1_000_000_000),
        "Labels": _volume_labels(answer),
        "Scope": "local",
        "Options": volume.options or None,
    }
    if answer.size >= 0:
        shape["UsageData"] = {"Size": answer.size, "RefCount": answer.users}
    return shape


def _volume_labels(answer: VolumeAnswer) -> dict[str, str] | None:
    volume = answer.volume
    anonymous = {"com.docker.volume.anonymous": ""} if volume.anonymous else {}
    return {**anonymous, **volume.labels} or None
