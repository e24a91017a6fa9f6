"""What is written down about a container, in its folder's state.json.

The names are those of runc's where other programs read them; what is ours alone
is below "orlop".
"""

from __future__ import annotations

from orlop.model.light import Any, TypedDict


class Own(TypedDict):
    """What runc has no word for."""

    bundle: str
    cgroup: str  # cgroupsPath
    own_pids: bool  # a pid namespace of its own: all end with the first process
    annotations: dict[str, str]
    poststart: bool
    poststop: bool
    oci_version: str


class Record(TypedDict):
    """The whole file. The pid is 0 while the process is being made."""

    id: str
    init_process_pid: int
    init_process_start: int  # /proc/PID/stat field 22: with the pid it names the process
    created: str
    config: dict[str, Any]
    rootless: bool
    cgroup_paths: dict[str, str]
    namespace_paths: dict[str, str]
    external_descriptors: list[str]
    intel_rdt_path: str
    orlop: Own


#: What has to be there, for whoever reads the file not to trip over it.
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
