"""Restore a container from its images and its bundle.

Its folder and record are made first, as by create(), and get the pid when the container is
complete and not running yet: criu/restore.py.
"""

from __future__ import annotations

import os

from orlop.criu.clocks import has_own_clocks
from orlop.criu.options import Options, open_folders, requested, require_root
from orlop.criu.restore import Origin, Restoring
from orlop.lifecycle import create, descriptors
from orlop.lifecycle.folder import Folder, Lock, replace
from orlop.model import jsontext
from orlop.model.light import TYPE_CHECKING, NamedTuple
from orlop.model.light_context import ExitStack
from orlop.runtime.bundle import Bundle, Manner, Starting, Stdio
from orlop.runtime.start import make_cgroup

if TYPE_CHECKING:
    from orlop.criu.options import Folders
    from orlop.lifecycle.statefile import Record
    from orlop.model.oci import Config


class Request(NamedTuple):
    """The command line's options for a restore."""

    create: create.Request
    options: Options = Options()
    lsm_profile: str = ""
    lsm_mount_context: str = ""


def restore(folder: Folder, request: Request, stdio: Stdio) -> create.Created:
    """Make the container from its images. A failure leaves nothing behind."""
    require_root()
    text, config = create.read_config(request.create)
    descriptors.check_terminal(config.get("process", {}), request.create)
    with ExitStack() as undo, ExitStack() as ours:
        folder.make()
        undo.callback(folder.remove)
        ours.enter_context(Lock(folder))
        replace(folder.file("config.json"), text)
        record = create.new_record(folder, request.create, config)
        folder.save(record)
        manner = Manner(systemd_cgroup=request.create.systemd_cgroup)
        bundle = Bundle(folder.name, record["orlop"]["bundle"], config, manner=manner)
        cgroup = make_cgroup(bundle)
        undo.callback(cgroup.remove)
        record["external_descriptors"] = create.external_descriptors(stdio)

        def commit(starting: Starting) -> Starting:
            _note_clocks(folder, record, config, starting.pid)
            create.note(folder, record, starting)
            return descriptors.hand_over(request.create, starting)

        origin = _origin(folder, request, config, ours)
        starting = Restoring(bundle, cgroup, origin, commit).run(stdio)
        undo.pop_all()
    return create.Created(record, starting)


def _origin(folder: Folder, request: Request, config: Config, ours: ExitStack) -> Origin:
    place = folder.file("criu")
    os.mkdir(place, 0o700)
    ours.callback(os.rmdir, place)
    wanted = requested(request.options, config.get("annotations", {}))
    wanted |= {
        "lsm_profile": request.lsm_profile or None,
        "lsm_mount_context": request.lsm_mount_context or None,
    }

    def open_images(ours: ExitStack) -> Folders:
        return open_folders(request.options, "restore.log", ours, make=False)

    return Origin(place, open_images, wanted)


def _note_clocks(folder: Folder, record: Record, config: Config, pid: int) -> None:
    """Make later processes join the time namespace in which CRIU has put the first one."""
    namespaces = config.setdefault("linux", {}).setdefault("namespaces", [])
    if has_own_clocks(pid) and not any(entry["type"] == "time" for entry in namespaces):
        namespaces.append({"type": "time"})
        record["config"]["namespaces"].append({"type": "NEWTIME", "path": ""})
        text = jsontext.dumps(config).encode(errors="surrogateescape")
        replace(folder.file("config.json"), text)
