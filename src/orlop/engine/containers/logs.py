"""What a container's log options come to: where its output goes, and what is told with it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orlop.engine.records import short
from orlop.engine.threads import in_thread
from orlop.errors import InvalidArgumentError, OrlopError
from orlop.logdrivers.drivers import DRIVERS
from orlop.logdrivers.options import size, truth
from orlop.logdrivers.serve import probe
from orlop.logdrivers.wire import NOBODY, Delivery
from orlop.model.container import Container, LogOptions
from orlop.model.gotemplate import Template

_FILES = {"json-file": "{}-json.log", "local": "container.log"}
CRI = "cri"  # a file that somebody else rotates
_CACHED = "container-cached.log"  # of drivers that send it elsewhere
_UNFINISHED = "container.log.unfinished"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_DEFAULT_TAG = "{{.ID}}"
_DEFAULT_BUFFER = 1 << 20
_LONGEST_TAG = 4096  # of its template
_MATCH_S = 2.0
#: An expression can take for ever, and holds the interpreter meanwhile: another one matches.
_MATCH = (
    "import json, re, sys; pattern, names = json.load(sys.stdin);"
    " json.dump(list(filter(re.compile(pattern).search, names)), sys.stdout)"
)


def path_of(options: LogOptions, folder: Path) -> str:
    """Return the path of the log of the container whose *folder* it is; "" for none."""
    if options.driver == CRI:
        return options.path
    if options.driver == "none" or not options.kept:
        return ""
    return str(folder / _FILES.get(options.driver, _CACHED).format(folder.name))


def log_message(container: Container, folder: Path) -> dict[str, Any] | None:
    """Return what the shim is told of the log, without what complete() adds; None for none."""
    options = container.options.log
    if options.driver == "none":
        return None
    message: dict[str, Any] = {
        "path": container.log_path or str(folder / _CACHED),
        "max_size": options.max_size_bytes,
        "max_files": options.max_files,
        "compress": options.compress,
        "kept": options.kept,
    }
    if options.driver == CRI:
        more = {"is_cri": True, "max_size": 0, "compress": False}
        message |= {**more, "unfinished": str(folder / _UNFINISHED)}
    return message


def make_file(container: Container) -> None:
    """Make the empty log of a new container: there before who follows it, who may outlive it.

    One with the driver "cri" is made at the start, perhaps after another container's.
    """
    if container.log_path and container.options.log.driver != CRI:
        os.close(os.open(container.log_path, _NEW_FILE, 0o640))


async def complete(message: dict[str, Any] | None, container: Container) -> None:
    """Add to log_message()'s *message* what the options ask for, as it is now."""
    log = container.options.log
    if message is None or (not log.given and log.driver in _FILES):
        return
    attributes = await attributes_of(container)
    message["attributes"] = attributes
    if log.driver in DRIVERS:
        delivery = _delivery(container, attributes)
        if not _later(log):
            await _check_reached(delivery)
        message["delivery"] = delivery


def _delivery(container: Container, attributes: Mapping[str, str]) -> Delivery:
    log = container.options.log
    extra = {name: value for name, value in attributes.items() if name != "tag"}
    return {
        "driver": log.driver,
        "options": log.given,
        "about": {
            "id": container.id,
            "name": container.name,
            "image": container.image_name,
            "tag": tag_of(container, log.given.get("tag", "") or _DEFAULT_TAG, extra),
            "attributes": extra,
        },
        "buffer": _buffer(log),
    }


def _later(log: LogOptions) -> bool:
    """Whether the service need not be there when the container starts."""
    return truth(log.given, "fluentd-async")


def _buffer(log: LogOptions) -> int:
    if _later(log):
        return size(log.given, "fluentd-buffer-limit", default=_DEFAULT_BUFFER)
    if log.given.get("mode") == "non-blocking":
        return size(log.given, "max-buffer-size", default=_DEFAULT_BUFFER)
    return 0


async def _check_reached(delivery: Delivery) -> None:
    """Raise OrlopError where nobody answers: output that is asked for elsewhere must get there."""
    driver = delivery["driver"]
    try:
        await in_thread(probe, driver, delivery["options"], delivery["about"])
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OrlopError(
            f"failed to initialize logging driver: {driver} does not answer: {reason}"
        ) from None


async def attributes_of(container: Container) -> dict[str, str]:
    """Return the labels, variables and the tag that log options name.

    Raises:
        InvalidArgumentError: an expression or a template is wrong.
    """
    log = container.options.log
    given = log.given
    if log.driver in DRIVERS:
        DRIVERS[log.driver](given, NOBODY)
    if not given:
        return {}
    attributes = await _extra(container, given)
    if tag := tag_of(container, given.get("tag", ""), attributes):
        attributes["tag"] = tag
    return attributes


def tag_of(container: Container, template: str, extra: Mapping[str, str]) -> str:
    """Return the tag that *template*, of Go, makes of the container, as Docker does."""
    if len(template) > _LONGEST_TAG:
        raise InvalidArgumentError(f"log option tag is longer than {_LONGEST_TAG} characters")
    return Template(template, loops=False).render(_fields(container, extra)) if template else ""


def _fields(container: Container, extra: Mapping[str, str]) -> dict[str, Any]:
    options = container.options
    digest = container.image.rpartition(":")[2]
    return {
        "ID": short(container.id),
        "FullID": container.id,
        "Name": container.name,
        "ImageID": digest[:12],
        "ImageFullID": container.image,
        "ImageName": container.image_name,
        "DaemonName": "orlop",
        "Command": " ".join((container.path, *container.args)),
        "Hostname": os.uname().nodename,
        "ExtraAttributes": lambda _change=None: dict(extra),
        "Config": options.log.given,
        "ContainerID": container.id,
        "ContainerName": f"/{container.name}",
        "ContainerEntrypoint": container.path,
        "ContainerArgs": container.args,
        "ContainerImageID": container.image,
        "ContainerImageName": container.image_name,
        "ContainerEnv": options.environment,
        "ContainerLabels": options.labels,
        "LogPath": container.log_path,
    }


async def _extra(container: Container, given: Mapping[str, str]) -> dict[str, str]:
    """Return the labels and variables that options name, or match."""
    variables = {}
    for entry in container.options.environment:
        name, separator, value = entry.partition("=")
        if separator:
            variables[name] = value
    chosen: dict[str, str] = {}
    for option, values in (("labels", container.options.labels), ("env", variables)):
        named = given.get(option, "").split(",")
        pattern = given.get(f"{option}-regex", "")
        matching = await _matching(pattern, values, f"{option}-regex") if pattern else []
        chosen |= {name: values[name] for name in (*named, *matching) if name in values}
    return chosen


async def _matching(pattern: str, names: Iterable[str], option: str) -> list[str]:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidArgumentError(f"log option {option}: {error}") from None
    words = [sys.executable, "-I", "-S", "-c", _MATCH]
    text = json.dumps([pattern, sorted(names)])
    try:
        done = await in_thread(
            lambda: subprocess.run(
                words, input=text, capture_output=True, text=True, timeout=_MATCH_S, check=True
            )
        )
    except subprocess.SubprocessError:
        raise InvalidArgumentError(f"log option {option} takes too long to match") from None
    found: list[str] = json.loads(done.stdout)
    return found
