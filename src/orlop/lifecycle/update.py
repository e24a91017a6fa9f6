"""Change the limits of an existing container."""

from __future__ import annotations

from orlop.errors import UnsupportedError, WrongStateError
from orlop.lifecycle.cgroup import of_record
from orlop.lifecycle.execute import load_config
from orlop.lifecycle.folder import Folder, Lock, replace
from orlop.lifecycle.record import STOPPED, status
from orlop.model import jsontext
from orlop.model.light import TYPE_CHECKING

if TYPE_CHECKING:
    from orlop.model.oci import Resources


def update(folder: Folder, resources: Resources) -> None:
    """Set the limits in *resources*, and leave the others alone."""
    with Lock(folder):
        record = folder.load()
        if status(folder, record) == STOPPED:
            raise WrongStateError("container not running")
        cgroup = of_record(record)
        if cgroup is None:
            raise UnsupportedError(f"container {folder.name} has no cgroup of its own")
        cgroup.update(resources)
        config = load_config(folder)
        merged = config.setdefault("linux", {}).setdefault("resources", {})
        for kind, limits in resources.items():
            before = merged.get(kind)
            if isinstance(before, dict) and isinstance(limits, dict):
                before.update(limits)
            else:
                merged[kind] = limits  # type: ignore[literal-required]  # a key of its own kind
        replace(folder.file("config.json"), jsontext.dumps(config))
