"""The same options by either way, and what a program finds there."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orlop.client.direct import connections
from orlop.sandbox.options import Options
from orlop.sandbox.processes.process import Process
from orlop.sandbox.result import Result
from orlop.sandbox.way import Command, Runs
from orlop.sandbox.ways.containers import ContainerBox, ContainerWay
from orlop.sandbox.ways.direct import (
    DirectBox,
    DirectHandle,
    DirectWay,
    command_message,
    start_message,
)

#: busybox, with users and groups of its own; what else programs need is the host's.
IMAGE = "small:test"
HOST = ("/usr:/usr:ro", "/usr/lib64:/lib64:ro", "/usr/lib:/lib:ro")
_PROBE = (Path(__file__).parent / "probe.py").read_text()
LOOK = (
    "/bin/sh",
    "-c",
    'exec /usr/bin/python3 -c "$0" "$(cat /proc/self/status)"',
    _PROBE,
)
#: Where an overlay is.
_TOLD_OTHERWISE = ("lowerdir", "upperdir", "workdir", "datadir")
_OWN_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")


@dataclass(frozen=True, kw_only=True, eq=False)
class Given(Options):
    """Options, and *more* of the body of a create request."""

    more: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        made, more = super().body(), dict(self.more)
        host = {**made["HostConfig"], **more.pop("HostConfig", {})}
        return {**made, **more, "HostConfig": host}


@contextmanager
def direct(options: Options) -> Iterator[DirectBox]:
    box = DirectWay(options.settings()).start(options)
    try:
        assert isinstance(box, DirectBox)
        yield box
    finally:
        box.close()


@contextmanager
def usual(options: Options) -> Iterator[ContainerBox]:
    box = ContainerWay(options.settings()).start(options)
    try:
        assert isinstance(box, ContainerBox)
        yield box
    finally:
        box.close()


class Once:
    """Starts a sandbox for each command, as orlop.Runner, and never in the usual way."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def exec(self, command: Command) -> DirectHandle:
        message = {**start_message(self._options), **command_message(command)}
        return DirectHandle(connections(self._options.settings()), message, command)


def run(box: Runs, *words: str, **how: Any) -> Result:
    with Process(box, Command(words=words, timeout=60, **how)) as process:
        return process.result()


def shell(box: Runs, script: str, **how: Any) -> str:
    """Return what a script prints; it must succeed."""
    done = run(box, "sh", "-c", script, **how)
    assert done.exit_code == 0, done
    return done.stdout.decode()


def look(box: Runs, **how: Any) -> dict[str, Any]:
    done = run(box, *LOOK, **how)
    assert done.exit_code == 0, done
    return alike(json.loads(done.stdout))


def alike(found: dict[str, Any]) -> dict[str, Any]:
    """Take out what is to differ: names, and what these sandboxes are meant to have otherwise.

    Their root and their own files are in memory. A program's input is a pipe at its end, not
    /dev/null. It does not outlive the shim.
    """
    name = found["host"][0]
    text = json.dumps(found).replace(name, "NAME")
    result: dict[str, Any] = json.loads(re.sub(r"exec-[0-9a-f]+", "exec-ID", text))
    result["mounts"] = sorted(_mount(*mount) for mount in result["mounts"])
    result["descriptors"] = sorted(result["descriptors"])
    ours = {name: os.readlink(f"/proc/self/ns/{name}") for name in result["namespaces"]}
    result["namespaces"] = {n: ours[n] == link for n, link in result["namespaces"].items()}
    assert result["process"].pop("pdeathsig") in (0, 9)
    return result


def _mount(
    target: str, fstype: str, source: str, root: str, options: str, tags: list[str], own: str
) -> list[Any]:
    if target in _OWN_FILES:
        return [target, options.replace("nodev,", ""), tags]
    kept = [word for word in own.split(",") if not word.startswith(_TOLD_OTHERWISE)]
    return [target, fstype, source, root, options, tags, kept]


def differences(quick: Any, slow: Any, where: str = "") -> list[str]:
    """Say where two looks differ; empty where they do not."""
    if isinstance(quick, dict) and isinstance(slow, dict):
        keys = sorted({*quick, *slow})
        return [
            text
            for key in keys
            for text in differences(quick.get(key), slow.get(key), f"{where}/{key}")
        ]
    if quick == slow:
        return []
    if isinstance(quick, list) and isinstance(slow, list):
        ours = [f"{where}: only directly: {item}" for item in quick if item not in slow]
        theirs = [f"{where}: only usually: {item}" for item in slow if item not in quick]
        return [*ours, *theirs] or [f"{where}: another order"]
    return [f"{where}: directly {quick!r}, usually {slow!r}"]
