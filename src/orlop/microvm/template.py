"""A machine that has booted once, and the clones that go on from there.

The template's memory is a file, which each clone maps privately: it reads the template's pages and
copies those it writes. Devices are in a second file of 100 KiB. QEMU, docs/devel/migration.

    templates/KEY/memory, state     KEY: QEMU, its command line, the processor
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from typing import NamedTuple

from orlop.microvm.machine import (
    NO_DISKS,
    Disks,
    Kind,
    Machine,
    boot,
    command_line,
    program,
)

_UNUSED_S = 24 * 3600
_CAPABILITIES = ("x-ignore-shared", "events")


class Template(NamedTuple):
    """The files of one template; machines share them, and nothing writes to them."""

    kind: Kind
    folder: str

    def clone(self, hostname: str, *, disks: Disks = NO_DISKS, tap: int | None = None) -> Machine:
        """Start a machine that goes on from the template, with an identity of its own.

        No clone is handed out before its random generator has been seeded anew. Raises
        UnavailableError if QEMU or the agent fails; nothing is left then.
        """
        with ExitStack() as undo:
            waiting = ["-incoming", "defer"]
            memory = _memory(self.kind, self.folder, share=False)
            machine = undo.enter_context(
                Machine(self.kind, waiting, memory=memory, disks=disks, tap=tap)
            )
            _allow(machine)
            machine.control.command("migrate-incoming", uri=f"file:{self.folder}/state")
            machine.control.migrated()
            machine.control.command("cont")
            machine.agent.identify(hostname)
            undo.pop_all()
        return machine


def template(root: str, kind: Kind) -> Template:
    """Return the template for *kind* below *root*; boots one machine if it is not there yet."""
    parent = f"{root}/microvm/templates"
    os.makedirs(parent, 0o700, exist_ok=True)
    target = f"{parent}/{_key(kind)}"
    if not os.path.exists(target):
        with open(f"{parent}/lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(target):
                staged = f"{parent}/building"
                shutil.rmtree(staged, ignore_errors=True)  # of one who was killed
                os.mkdir(staged, 0o700)
                _save(kind, staged)
                os.rename(staged, target)
                remove_unused(parent)
    os.utime(target)
    return Template(kind, target)


def remove_unused(parent: str) -> None:
    """Remove the templates that nobody has asked for in a day; who runs by one keeps its files."""
    for entry in os.scandir(parent):
        if entry.is_dir() and entry.stat().st_mtime < time.time() - _UNUSED_S:
            shutil.rmtree(entry.path, ignore_errors=True)


def _save(kind: Kind, folder: str) -> None:
    with boot(kind, memory=_memory(kind, folder, share=True)) as machine:
        machine.agent.warm()
        machine.control.command("stop")
        _allow(machine)
        machine.control.command("migrate", uri=f"file:{folder}/state")
        machine.control.migrated()
    for name in ("memory", "state"):
        os.chmod(f"{folder}/{name}", 0o444)  # for the users of machines, if they are given it


def _memory(kind: Kind, folder: str, *, share: bool) -> str:
    size = f"size={kind.memory_mib}M,mem-path={folder}/memory"
    how = "share=on" if share else "share=off,readonly=on,rom=off"
    return f"memory-backend-file,id=mem,{size},{how}"


def _allow(machine: Machine) -> None:
    wanted = [{"capability": name, "state": True} for name in _CAPABILITIES]
    machine.control.command("migrate-set-capabilities", capabilities=wanted)


def _key(kind: Kind) -> str:
    """Return what the saved state depends on: QEMU's `microvm` changes between its versions."""
    version = subprocess.run([program(), "--version"], capture_output=True, check=True).stdout
    with open("/proc/cpuinfo") as file:
        model = next((line for line in file if line.startswith("model name")), "")
    inputs = (*command_line(kind), version, model)
    return hashlib.sha256(repr(inputs).encode()).hexdigest()[:24]
