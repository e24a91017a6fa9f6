"""A container's record, in its folder's state.json.

Keys that other programs read have runc's names; our own are below "orlop".
"""

from __future__ import annotations

from orlop.model.light import Any, TypedDict


class Own(TypedDict):
    """The keys that runc does not have."""

    bundle: str
    cgroup: str  # cgroupsPath
    own_pids: bool  # it has a pid namespace: all processes end with the first one
    annotations: dict[str, str]
    poststart: bool
    poststop: bool
    oci_version: str


class Record(TypedDict):
    """The whole file. The pid is 0 until the process exists."""

    id: str
    init_process_pid: int
    init_process_start: int  # /proc/PID/stat field 22: together with the pid it is unique
    created: str
    config: dict[str, Any]
    rootless: bool
    cgroup_paths: dict[str, str]
    namespace_paths: dict[str, str]
    external_descriptors: list[str]
    intel_rdt_path: str
    orlop: Own


#: Keys that must exist, so that readers of the file do not fail.
RECORD = {
    "id": str,
    "init_process_pid": int,
    "init_process_start": int,
    "created": str,
    "config": {"rootfs": str, "cgroups": {}},
    "cgroup_paths": {},
    "namespace_paths": {},
    "orlop": {
        "bundle": str,
        "cgroup": str,
        "own_pids": bool,
        "annotations": {},
        "poststart": bool,
        "poststop": bool,
        "oci_version": str,
    },
}
