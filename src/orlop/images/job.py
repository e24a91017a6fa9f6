"""The messages between the engine and a worker: one JSON value per line.

    engine -> worker   Job, MeasureJob, StackJob or ArchiveJob
    worker -> engine   Report: ready, once; then for each job progress…, and done or failed;
                       for an archive also keep…, image… or layer; for MeasureJob layer

A worker runs any number of jobs, one after the other, each in a confined fork
(programs/confinement.py). It ends when its input ends, or its parent.
See programs/worker.py.
"""

from typing import Literal

import msgspec

from orlop.errors import OrlopError, class_of, kind_of
from orlop.images.archives.load import LoadedImage
from orlop.images.pull import Layer
from orlop.images.registry import Source
from orlop.layers.budget import DEFAULT, Budget
from orlop.model.digest import DiffID, Digest
from orlop.model.image import Descriptor, Size

#: For asyncio's StreamReader: the maximum length of a line.
MAX_LINE_BYTES = 1 << 20


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="layer"):
    """Fetch a layer's blob into the content store, and unpack it at the same time."""

    layer: Descriptor
    diff_id: DiffID
    content: str  # the store's folder
    snapshots: str  # the folder of all drivers
    driver: str  # one that works on this host
    budget: Budget = DEFAULT
    source: Source | None = None  # None: the blob is stored already


class MeasureJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="measure"):
    """Find out the DiffID of a stored layer, and its size uncompressed."""

    layer: Descriptor
    content: str  # the store's folder
    budget: Budget = DEFAULT


class StackJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="stack"):
    """Prepare an image's unpacked layers to be mounted together."""

    layers: tuple[DiffID, ...]  # bottom first
    snapshots: str
    driver: str
    budget: Budget = DEFAULT


class ArchiveJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="archive"):
    """Store a client's upload: an archive of images, or the tar of a root file system."""

    stream: str  # the path of a pipe
    content: str  # the store's folder
    holds: Literal["images", "root"]
    budget: Budget = DEFAULT


AnyJob = Job | MeasureJob | StackJob | ArchiveJob


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a worker's output."""

    event: Literal["ready", "progress", "keep", "image", "layer", "done", "failed"]
    kind: str = ""  # for progress: images.progress.Kind; for failure: a class in errors
    done: Size = 0  # bytes
    total: Size = 0
    size: Size = 0  # of the unpacked layer, in bytes on disk
    message: str = ""
    digest: Digest | None = None  # for keep: a blob in use, as soon as its digest is known
    image: LoadedImage | None = None  # an image of an archive, now stored
    layer: Layer | None = None  # made from a root file system, or measured
    missing: tuple[str, ...] = ()  # for ready: protections that this host lacks
    hint: str | None = None


def failure(error: OrlopError) -> Report:
    """Return the report of a job that failed with *error*."""
    return Report(event="failed", kind=kind_of(error), message=str(error.args[0]), hint=error.hint)


def error_of(report: Report) -> OrlopError:
    """Return the error that a failed *report* tells of, to be raised."""
    return class_of(report.kind)(report.message, hint=report.hint)
