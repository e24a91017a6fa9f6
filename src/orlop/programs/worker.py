"""`python -I -m orlop.programs.worker`: fetches and unpacks layers, and reads archives.

images/job.py has the messages. Everything that a job may need is imported before the first
one is read, so that an engine that keeps a worker ready pays for it early.
"""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO

import isal.isal_zlib  # noqa: F401 (loaded for layers/decompress.py)
import msgspec

from orlop.errors import ExhaustedError, OrlopError, UnavailableError
from orlop.images.archives.load import load_tar
from orlop.images.build import import_layer
from orlop.images.fetch import Consumer, fetch_blob, replay
from orlop.images.job import (
    MAX_LINE_BYTES,
    AnyJob,
    ArchiveJob,
    Job,
    MeasureJob,
    Report,
    StackJob,
    failure,
)
from orlop.images.progress import Kind, Progress
from orlop.images.pull import Layer
from orlop.images.registry import Registry
from orlop.kernel.process import set_parent_death_signal
from orlop.layers.budget import What, exceeded
from orlop.layers.feed import through
from orlop.layers.tar import Stream
from orlop.model.digest import DiffID, Digest
from orlop.programs.confinement import Plan, Reach, limit
from orlop.snapshots.choose import DRIVERS, open_driver
from orlop.snapshots.interface import layer_key
from orlop.snapshots.shelf import boot
from orlop.store.content import Content
from orlop.store.faults import fault

_PROGRESS_EVERY_S = 0.1
_BLOCK = 1 << 20


def main() -> int:
    """Work until the input or the parent ends; return the exit code."""
    parent = os.getppid()
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        return 1  # the parent died before we asked to be told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal, meant for the engine
    boot()  # read it for the jobs, while we may
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer, Plan.make(*sys.argv[1:2]))
    except BrokenPipeError:
        return 1
    return 0


def serve(lines: BinaryIO, out: BinaryIO, plan: Plan) -> None:
    """Run the job in each of *lines* in a child, and report to *out*."""
    decoder = msgspec.json.Decoder(AnyJob)
    _say(out, Report(event="ready", missing=plan.missing))
    for line in lines:
        try:
            job = decoder.decode(line)
        except msgspec.DecodeError as error:
            _say(out, failure(OrlopError(f"malformed job: {error}")))
            continue
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            os._exit(_in_child(job, out, plan, parent))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0:  # the child could not report
            _say(out, failure(_end_of(status, job)))


def _in_child(job: AnyJob, out: BinaryIO, plan: Plan, parent: int) -> int:
    """Run the job, confined, and report; return the exit code: 0 if it has reported."""
    try:
        os.dup2(
            os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), 0
        )  # more jobs are not its business
        stream = os.open(job.stream, os.O_RDONLY) if isinstance(job, ArchiveJob) else -1
        _confine(job, plan)
        if os.getppid() == parent:  # otherwise nobody waits for the report
            _say(out, _report_on(job, out, stream))
    except BaseException:
        return 1
    return 0


def _confine(job: AnyJob, plan: Plan) -> None:
    """Drop privileges that the job does not need, and tie our life to the parent's."""
    if isinstance(job, ArchiveJob | MeasureJob):
        plan.enter(Reach((job.content,)), job.budget)
    elif isinstance(job, Job) and job.driver in DRIVERS:
        plan.enter(_reach(job), job.budget)
    else:  # stacking mounts layers; the needs of foreign drivers are not known
        set_parent_death_signal(signal.SIGKILL)
        limit(job.budget)


def _report_on(job: AnyJob, out: BinaryIO, stream: int) -> Report:
    try:
        if isinstance(job, ArchiveJob):
            return _take_apart(job, out, stream)
        if isinstance(job, StackJob):
            return _stack(job)
        if isinstance(job, MeasureJob):
            return _measure(job, out)
        return _unpack(job, _reporter(out))
    except OrlopError as error:
        return failure(error)
    except OSError as error:
        return failure(fault(error, f"the {_kind(job)}") or _unexpected(error))
    except MemoryError:
        return failure(_memory(job))
    except Exception as error:
        return failure(OrlopError(f"worker failed: {type(error).__name__}: {error}"))


def _reach(job: Job) -> Reach:
    """Return the resources that the job's process may access."""
    for folder in (job.content, job.snapshots):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    endpoints = job.source.endpoints if job.source is not None else ()
    readable = [path for endpoint in endpoints for path in endpoint.tls.files]
    return Reach((job.content, job.snapshots), readable, network=job.source is not None)


def _memory(job: AnyJob) -> OrlopError:
    return exceeded(job.budget, "memory_bytes", "more than {:,} bytes of memory", of=_kind(job))


def _kind(job: AnyJob) -> What:
    if isinstance(job, ArchiveJob):
        return "archive"
    return "image" if isinstance(job, StackJob) else "layer"


def _end_of(status: int, job: AnyJob) -> OrlopError:
    """Return the error for a child that ended without a report."""
    if -status == signal.SIGXCPU:
        what = "more than {:,} s of processor time"
        return exceeded(job.budget, "processor_s", what, of=_kind(job))
    if -status == signal.SIGKILL:
        return UnavailableError(f"unpacking the {_kind(job)} was killed", hint="is memory short?")
    return OrlopError(f"unpacking the {_kind(job)} ended without a word (status {status})")


def _stack(job: StackJob) -> Report:
    keys = [layer_key(diff_id) for diff_id in job.layers]
    open_driver(job.snapshots, job.driver).stack(keys, budget=job.budget)
    return Report(event="done")


def _take_apart(job: ArchiveJob, out: BinaryIO, stream: int) -> Report:
    content = Content(Path(job.content))

    def keep(*digests: Digest) -> None:
        for digest in digests:
            _say(out, Report(event="keep", digest=digest))

    with open(stream, "rb", buffering=0) as archive:
        if job.holds == "root":
            layer = import_layer(archive, content, keep=keep)
            _say(out, Report(event="layer", layer=layer))
        else:
            for image in load_tar(archive, content, keep=keep):
                _say(out, Report(event="image", image=image))
    return Report(event="done")


def _unpack(job: Job, progress: Progress) -> Report:
    content = Content(Path(job.content))
    driver = open_driver(job.snapshots, job.driver)

    def produce(consumer: Consumer) -> None:
        if job.source is None:
            replay(content, job.layer, _counting(consumer, job, progress))
            return
        with Registry(job.source) as registry:
            fetch_blob(registry, job.layer, content, progress=progress, consumer=consumer)

    key = layer_key(job.diff_id)

    def consume(tar: Stream) -> int:
        return driver.add_layer(key, tar, budget=job.budget)

    size = through(produce, consume, diff_id=job.diff_id)
    return Report(event="done", size=size)


def _measure(job: MeasureJob, out: BinaryIO) -> Report:
    content, digest = Content(Path(job.content)), hashlib.sha256()

    def consume(tar: Stream) -> int:
        size = 0
        while data := tar.read(_BLOCK):
            digest.update(data)
            size += len(data)
        return size

    size = through(lambda take: replay(content, job.layer, take), consume, diff_id=None)
    diff_id = DiffID(f"sha256:{digest.hexdigest()}")
    _say(out, Report(event="layer", layer=Layer(job.layer, diff_id)))
    return Report(event="done", size=size)


def _counting(consumer: Consumer, job: Job, progress: Progress) -> Consumer:
    done = 0

    def count(data: memoryview) -> None:
        nonlocal done
        consumer(data)
        done += len(data)
        progress(job.layer.digest, Kind.UNPACK, done, job.layer.size)

    return count


def _reporter(out: BinaryIO) -> Progress:
    """Return a function that reports progress now and then."""
    last_s = 0.0

    def progress(digest: Digest, kind: Kind, done: int, total: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= _PROGRESS_EVERY_S or done == total:
            last_s = now_s
            _say(out, Report(event="progress", kind=kind, done=done, total=total))

    return progress


def _say(out: BinaryIO, report: Report) -> None:
    line = msgspec.json.encode(report) + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise ExhaustedError("an image of the archive has too many names")
    out.write(line)
    out.flush()


def _unexpected(error: OSError) -> OrlopError:
    where = f": {os.fsdecode(error.filename)}" if error.filename else ""
    return UnavailableError(f"unpacking failed: {error.strerror}{where}")


if __name__ == "__main__":
    sys.exit(main())
