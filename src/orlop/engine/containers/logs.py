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
from orlop.errors import InvalidArgumentError
from orlop.model.container import Container, LogOptions
from orlop.model.gotemplate import Template

_FILES = {"json-file": "{}-json.log", "local": "container.log"}
_LONGEST_TAG = 4096  # of its template
_MATCH_S = 2.0
#: An expression can take for ever, and holds the interpreter meanwhile: another one matches.
_MATCH = (
    "import json, re, sys; pattern, names = json.load(sys.stdin);"
    " json.dump(list(filter(re.compile(pattern).search, names)), sys.stdout)"
)


def path_of(options: LogOptions, folder: Path) -> str:
    """Return the path of the log of the container whose *folder* it is; "" for none."""
    name = _FILES.get(options.driver, "")
    return str(folder / name.format(folder.name)) if name else ""


def log_message(container: Container) -> dict[str, Any] | None:
    """Return what the shim is told of the log, without what complete() adds; None for none."""
    options = container.options.log
    if options.driver == "none":
        return None
    return {
        "path": container.log_path,
        "max_size": options.max_size_bytes,
        "max_files": options.max_files,
        "compress": options.compress,
    }


async def complete(message: dict[str, Any] | None, container: Container) -> None:
    """Add to log_message()'s *message* what the options ask for, as it is now."""
    if message is not None and container.options.log.given:
        message["attributes"] = await attributes_of(container)


async def attributes_of(container: Container) -> dict[str, str]:
    """Return the labels, variables and the tag that log options name.

    Raises:
        InvalidArgumentError: an expression or a template is wrong.
    """
    given = container.options.log.given
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
