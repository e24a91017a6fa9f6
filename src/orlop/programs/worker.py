"""`python -I -m orlop.programs.worker`: fetches and unpacks layers, one job per line.

See images/job.py for the lines. All that a job may need is imported before the
first one is read, so that an engine that keeps a worker ready pays for it early.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO

import isal.isal_zlib  # noqa: F401 (loaded for layers/decompress.py)
import msgspec

from orlop.errors import OrlopError, UnavailableError
from orlop.images.fetch import Consumer, fetch_blob, replay
from orlop.images.job import Job, Report, StackJob, failure
from orlop.images.progress import Kind, Progress
from orlop.images.registry import Registry
from orlop.kernel.process import set_parent_death_signal
from orlop.layers.feed import through
from orlop.layers.tar import Stream
from orlop.model.digest import Digest
from orlop.snapshots.choose import open_driver
from orlop.snapshots.interface import layer_key
from orlop.store.content import Content
from orlop.store.faults import fault

_PROGRESS_EVERY_S = 0.1


def main() -> int:
    """Work until the input or the parent ends; return the exit code."""
    parent = os.getppid()
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        return 1  # it died before it could be told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, meant for the engine
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        return 1
    return 0


def serve(lines: BinaryIO, out: BinaryIO) -> None:
    """Do the job of each of *lines* and report to *out*."""
    decoder = msgspec.json.Decoder(Job | StackJob)
    _say(out, Report(event="ready"))
    for line in lines:
        try:
            report = work(decoder.decode(line), _reporter(out))
        except OrlopError as error:
            report = failure(error)
        except OSError as error:
            report = failure(fault(error, "the layer") or _unexpected(error))
        except msgspec.DecodeError as error:
            report = failure(OrlopError(f"malformed job: {error}"))
        except Exception as error:
            report = failure(OrlopError(f"worker failed: {type(error).__name__}: {error}"))
        _say(out, report)


def work(job: Job | StackJob, progress: Progress) -> Report:
    """Do the job; what it cannot do it raises, and leaves only what a next try can use."""
    if isinstance(job, StackJob):
        keys = [layer_key(diff_id) for diff_id in job.layers]
        open_driver(job.snapshots, job.driver).stack(keys, budget=job.budget)
        return Report(event="done")
    return _unpack(job, progress)


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


def _counting(consumer: Consumer, job: Job, progress: Progress) -> Consumer:
    done = 0

    def count(data: memoryview) -> None:
        nonlocal done
        consumer(data)
        done += len(data)
        progress(job.layer.digest, Kind.UNPACK, done, job.layer.size)

    return count


def _reporter(out: BinaryIO) -> Progress:
    """Return a function that tells the engine now and then."""
    last_s = 0.0

    def progress(digest: Digest, kind: Kind, done: int, total: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= _PROGRESS_EVERY_S or done == total:
            last_s = now_s
            _say(out, Report(event="progress", kind=kind, done=done, total=total))

    return progress


def _say(out: BinaryIO, report: Report) -> None:
    out.write(msgspec.json.encode(report) + b"\n")
    out.flush()


def _unexpected(error: OSError) -> OrlopError:
    where = f": {os.fsdecode(error.filename)}" if error.filename else ""
    return UnavailableError(f"unpacking failed: {error.strerror}{where}")


if __name__ == "__main__":
    sys.exit(main())
